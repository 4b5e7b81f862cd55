-- 0015_retention
SELECT 1;
