-- 0013_schedules
SELECT 1;
