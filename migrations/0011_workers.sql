-- 0011_workers
SELECT 1;
