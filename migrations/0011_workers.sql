-- The processes that run, each with what it does.

-- id is given out when a process has connected, in the statement that also takes its advisory lock, so
-- that no row of a living process is ever seen without the lock. The process deletes its row when it
-- stops in order; one that is left without the lock tells of a process that ended otherwise.
CREATE TABLE spillway.workers (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  host           text NOT NULL,
  pid            int NOT NULL,
  runners        int NOT NULL,
  most_events    int NOT NULL,      -- of one batch
  serves_streams boolean NOT NULL,
  version        text NOT NULL,
  pooled         boolean NOT NULL,  -- it has no session of its own, hence no lock: seen_at says that it lives
  started_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  seen_at        timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON TABLE spillway.workers IS 'Processes of `spillway run`; spillway.live_workers are those that live.';

-- The key of a lock has 31 bits. 1397771343 is worker_lock_class in processor/worker_registry.hpp.
CREATE FUNCTION spillway.worker_lock_key(id bigint) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (id & 2147483647)::int;

CREATE VIEW spillway.live_workers AS
SELECT w.* FROM spillway.workers w
WHERE (w.pooled AND w.seen_at > clock_timestamp() - interval '10 seconds')
   OR (NOT w.pooled AND spillway.worker_lock_key(w.id)::oid IN (
         SELECT l.objid FROM pg_catalog.pg_locks l
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = 1397771343::oid
           AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())));
COMMENT ON VIEW spillway.live_workers IS
  'Those of spillway.workers whose lock is held, or, behind a pooler, that were seen within 10 seconds.';
