-- 0014_replays
SELECT 1;
