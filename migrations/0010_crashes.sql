-- 0010_crashes
SELECT 1;
