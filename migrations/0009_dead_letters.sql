-- 0009_dead_letters
SELECT 1;
