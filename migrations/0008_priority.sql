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
DROP VIEW spillway.event_status;  -- 0009 has the next one
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

-- Notifies, if some worker sleeps.
CREATE FUNCTION spillway.wake_worker() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF pg_sequence_last_value('spillway.armed') = 1 THEN
    PERFORM pg_notify('spillway_events', '');
  END IF;
END $$;
REVOKE ALL ON FUNCTION spillway.wake_worker() FROM PUBLIC;

-- Puts an event with a priority, or one whose time has not come, where it belongs. Always false: it is
-- called in a condition, see below.
CREATE FUNCTION spillway.enqueue_apart(
  event_id bigint, stream text, priority smallint, execute_at timestamptz, created_at timestamptz
) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF execute_at > created_at THEN
    INSERT INTO spillway.scheduled (event_id, lane, due_at)
    VALUES (event_id, spillway.lane_of(stream, event_id), execute_at);
  ELSE
    INSERT INTO spillway.ranked (lane, priority, stream_key, seq, event_id)
    VALUES (spillway.lane_of(stream, event_id), priority, spillway.stream_key(stream),
            nextval('spillway.queue_seq'), event_id);
  END IF;
  PERFORM spillway.wake_worker();
  RETURN false;
END $$;
REVOKE ALL ON FUNCTION spillway.enqueue_apart(bigint, text, smallint, timestamptz, timestamptz) FROM PUBLIC;

-- Runs after the insert, so the transaction has its xid before seq is drawn: once every transaction
-- that was running when seq M became visible has ended, nothing below M can appear any more. Rows come
-- in the order in which they were inserted, which is that of their ids. An event is due at once when its
-- execute_at is not later than its created_at: that asks no clock.
--
-- On the path of every insert, so it is one statement: the events that belong elsewhere are put there by
-- a function in its condition, which the usual ones never reach. (A second look at the inserted rows, or
-- a trigger per row, costs 5 to 10 % of an insert.) It does without a search_path of its own; everything
-- is named in full instead, operators too, so that the caller's search_path cannot lead it astray. The
-- sequence is read by a function, which is no query.
CREATE OR REPLACE FUNCTION spillway.enqueue() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO spillway.queue (lane, stream_key, seq, event_id)
  SELECT spillway.lane_of(stream, id), spillway.stream_key(stream),
         pg_catalog.nextval('spillway.queue_seq'::pg_catalog.regclass), id
  FROM inserted
  WHERE CASE WHEN execute_at OPERATOR(pg_catalog.<=) created_at
                  AND NOT spillway.is_ranked(priority, stream) THEN true
             ELSE spillway.enqueue_apart(id, stream, priority, execute_at, created_at) END;
  IF FOUND AND pg_catalog.pg_sequence_last_value('spillway.armed'::pg_catalog.regclass)
               OPERATOR(pg_catalog.=) 1 THEN
    PERFORM pg_catalog.pg_notify('spillway_events', '');
  END IF;
  RETURN NULL;
END $$;
ALTER FUNCTION spillway.enqueue() RESET search_path;
