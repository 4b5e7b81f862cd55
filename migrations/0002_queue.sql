-- What is still to be done. Everything here is narrow and short-lived; the events stay in the log.

-- Which of the 8 lanes an event runs in: all events of a stream in one. hashtextextended is what hash
-- partitioning uses, so it does not change between PostgreSQL versions.
CREATE FUNCTION spillway.lane_of(stream text, event_id bigint) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (CASE WHEN stream IS NULL THEN event_id ELSE hashtextextended(stream, 0) END & 7)::smallint;

-- Ready to run, in the order of seq.
CREATE TABLE spillway.queue (
  lane     smallint NOT NULL,
  seq      bigint NOT NULL,
  event_id bigint NOT NULL,
  PRIMARY KEY (lane, seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- CACHE 1 is essential: workers start their scan behind what they know to be settled, and a session
-- that held numbers back would insert below that.
CREATE SEQUENCE spillway.queue_seq AS bigint CACHE 1;

-- Not due yet. Kept apart so that they are not in the way of the queue's scan.
CREATE TABLE spillway.scheduled (
  event_id bigint PRIMARY KEY,
  lane     smallint NOT NULL,
  due_at   timestamptz NOT NULL
);
CREATE INDEX scheduled_due ON spillway.scheduled (due_at, event_id);

-- Failed events that wait for their next attempt (due_at is set), and behind them the events of the
-- same stream that must not overtake (due_at is null).
CREATE TABLE spillway.waiting (
  event_id bigint PRIMARY KEY,
  lane     smallint NOT NULL,
  stream   text,
  attempts smallint NOT NULL,
  due_at   timestamptz,
  error    text,
  sqlstate text
);
CREATE INDEX waiting_due ON spillway.waiting (lane, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX waiting_stream ON spillway.waiting (stream, event_id) WHERE stream IS NOT NULL;

CREATE TABLE spillway.dead_letters (
  event_id  bigint PRIMARY KEY,
  error     text NOT NULL,
  sqlstate  text,
  attempts  smallint NOT NULL,
  failed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE spillway.dead_letters IS 'Events that were given up, with the reason.';

-- 1 while a worker sleeps and wants a NOTIFY. A sequence because it is not transactional: no snapshot
-- hides what it says. A NOTIFY in every insert would end group commit, since PostgreSQL holds one
-- instance-wide lock over the commit of every notifying transaction.
CREATE SEQUENCE spillway.armed AS smallint MINVALUE 0 MAXVALUE 1 START 0 CACHE 1;
SELECT setval('spillway.armed', 1);

-- Runs after the insert, so the transaction has its xid before seq is drawn: once every transaction
-- that was running when seq M became visible has ended, nothing below M can appear any more.
CREATE FUNCTION spillway.enqueue() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  present timestamptz := clock_timestamp();
BEGIN
  INSERT INTO spillway.queue (lane, seq, event_id)
  SELECT spillway.lane_of(ready.stream, ready.id), nextval('spillway.queue_seq'), ready.id
  FROM (SELECT id, stream FROM inserted WHERE execute_at <= present ORDER BY id) ready;

  IF EXISTS (SELECT FROM inserted WHERE execute_at > present) THEN
    INSERT INTO spillway.scheduled (event_id, lane, due_at)
    SELECT id, spillway.lane_of(stream, id), execute_at FROM inserted WHERE execute_at > present;
  ELSIF NOT FOUND THEN  -- an INSERT of no rows
    RETURN NULL;
  END IF;

  IF (SELECT last_value FROM spillway.armed) = 1 THEN
    PERFORM pg_notify('spillway_events', '');
  END IF;
  RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION spillway.enqueue() FROM PUBLIC;

CREATE TRIGGER events_enqueue AFTER INSERT ON spillway.events
  REFERENCING NEW TABLE AS inserted
  FOR EACH STATEMENT EXECUTE FUNCTION spillway.enqueue();
