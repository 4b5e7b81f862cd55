-- 0008_priority
SELECT 1;
