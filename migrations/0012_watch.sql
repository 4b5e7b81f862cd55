-- 0012_watch
SELECT 1;
