-- Priority: higher first among the events that are due, without reordering a stream and without
-- starving the rest.

-- What tells the streams of a lane apart without looking the events up. Two streams with one key only
-- wait for each other now and then.
CREATE FUNCTION spillway.stream_key(stream text) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (hashtextextended(stream, 0) >> 3 & 2147483647)::int;

-- Which events leave the common queue: urgent ones, and those that may wait. An event of a stream
-- cannot be put off without its stream, so there a negative priority is as 0.
CREATE FUNCTION spillway.is_ranked(priority smallint, stream text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN priority > 0 OR priority < 0 AND stream IS NULL;

-- Inserts wait until this has committed; the workers' batches end first.
LOCK TABLE spillway.events IN SHARE ROW EXCLUSIVE MODE;
LOCK TABLE spillway.queue, spillway.scheduled IN ACCESS EXCLUSIVE MODE;
DROP VIEW spillway.event_status;
ALTER TABLE spillway.queue RENAME TO queue_0002;
ALTER INDEX spillway.queue_pkey RENAME TO queue_0002_pkey;

-- As before, with the stream's key, which takes no room beside the lane.
CREATE TABLE spillway.queue (
  lane       smallint NOT NULL,
  stream_key int,
  seq        bigint NOT NULL,
  event_id   bigint NOT NULL,
  PRIMARY KEY (lane, seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- The same for events with a priority.
CREATE TABLE spillway.ranked (
  lane       smallint NOT NULL,
  priority   smallint NOT NULL,
  stream_key int,
  seq        bigint NOT NULL,
  event_id   bigint NOT NULL,
  after_seq  bigint,  -- the queue's row of the same stream that must be gone first, once it is known
  PRIMARY KEY (lane, seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ranked_priority ON spillway.ranked (lane, priority DESC, seq);
CREATE INDEX ranked_stream ON spillway.ranked (lane, stream_key, event_id) WHERE stream_key IS NOT NULL;

INSERT INTO spillway.queue (lane, stream_key, seq, event_id)
SELECT q.lane, spillway.stream_key(e.stream), q.seq, q.event_id
FROM spillway.queue_0002 q JOIN spillway.events e ON e.id = q.event_id
WHERE NOT spillway.is_ranked(e.priority, e.stream);

INSERT INTO spillway.ranked (lane, priority, stream_key, seq, event_id)
SELECT q.lane, e.priority, spillway.stream_key(e.stream), q.seq, q.event_id
FROM spillway.queue_0002 q JOIN spillway.events e ON e.id = q.event_id
WHERE spillway.is_ranked(e.priority, e.stream);

DROP TABLE spillway.queue_0002;

-- Runs after the insert, so the transaction has its xid before seq is drawn: once every transaction
-- that was running when seq M became visible has ended, nothing below M can appear any more. Rows come
-- in the order in which they were inserted, which is that of their ids.
--
-- On the path of every insert, so it does without a search_path of its own (1 of its 10 microseconds);
-- everything is named in full instead, types and operators too, so that the caller's search_path cannot
-- lead it astray. How many events of which kind there are and whether a worker sleeps is asked in the
-- statement that fills the queue.
CREATE OR REPLACE FUNCTION spillway.enqueue() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  present pg_catalog.timestamptz := pg_catalog.clock_timestamp();
  sleeping pg_catalog.bool;
  others pg_catalog.bool;  -- there are events for the other tables; null: there are no events at all
BEGIN
  WITH common AS (
    INSERT INTO spillway.queue (lane, stream_key, seq, event_id)
    SELECT spillway.lane_of(stream, id), spillway.stream_key(stream),
           pg_catalog.nextval('spillway.queue_seq'::pg_catalog.regclass), id
    FROM inserted
    WHERE execute_at OPERATOR(pg_catalog.<=) present AND NOT spillway.is_ranked(priority, stream)
  )
  SELECT armed.last_value OPERATOR(pg_catalog.=) 1,
         (SELECT pg_catalog.bool_or(execute_at OPERATOR(pg_catalog.>) present
                                    OR priority OPERATOR(pg_catalog.<>) 0) FROM inserted)
  INTO sleeping, others FROM spillway.armed;

  IF others THEN
    INSERT INTO spillway.ranked (lane, priority, stream_key, seq, event_id)
    SELECT spillway.lane_of(stream, id), priority, spillway.stream_key(stream),
           pg_catalog.nextval('spillway.queue_seq'::pg_catalog.regclass), id
    FROM inserted
    WHERE execute_at OPERATOR(pg_catalog.<=) present AND spillway.is_ranked(priority, stream);
    INSERT INTO spillway.scheduled (event_id, lane, due_at)
    SELECT id, spillway.lane_of(stream, id), execute_at FROM inserted
    WHERE execute_at OPERATOR(pg_catalog.>) present;
  END IF;

  IF sleeping AND others IS NOT NULL THEN
    PERFORM pg_catalog.pg_notify('spillway_events', '');
  END IF;
  RETURN NULL;
END $$;
ALTER FUNCTION spillway.enqueue() RESET search_path;

CREATE VIEW spillway.event_status AS
SELECT e.id AS event_id,
       e.type,
       CASE WHEN d.event_id IS NOT NULL THEN 'dead'
            WHEN w.attempts > 0 THEN 'retrying'
            WHEN w.event_id IS NOT NULL OR q.event_id IS NOT NULL OR r.event_id IS NOT NULL THEN 'pending'
            WHEN s.event_id IS NOT NULL THEN 'scheduled'
            ELSE 'done' END AS status,
       CASE WHEN d.event_id IS NOT NULL THEN d.attempts
            WHEN w.event_id IS NOT NULL THEN w.attempts
            WHEN q.event_id IS NOT NULL OR r.event_id IS NOT NULL OR s.event_id IS NOT NULL THEN 0
       END AS attempts,
       coalesce(w.due_at, s.due_at) AS next_attempt_at,
       coalesce(d.error, w.error,
                CASE WHEN w.event_id IS NOT NULL AND w.due_at IS NULL THEN
                  (SELECT format('held back by event %s of the same stream', min(h.event_id))
                   FROM spillway.waiting h WHERE h.stream = w.stream) END) AS last_error
FROM spillway.events e
LEFT JOIN spillway.dead_letters d ON d.event_id = e.id
LEFT JOIN spillway.waiting w ON w.event_id = e.id
LEFT JOIN spillway.scheduled s ON s.event_id = e.id
LEFT JOIN spillway.queue q ON q.event_id = e.id
LEFT JOIN spillway.ranked r ON r.event_id = e.id;
COMMENT ON VIEW spillway.event_status IS
  'scheduled | pending | retrying | dead | done; attempts of a done event are not kept (null).';
