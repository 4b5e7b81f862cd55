-- An insert's trigger is one statement, and who puts an event apart, retries or discards wakes a worker in
-- one way.

-- Notifies, if some worker sleeps.
CREATE OR REPLACE FUNCTION spillway.wake_worker() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF pg_sequence_last_value('spillway.armed') = 1 THEN
    PERFORM pg_notify('spillway_events', '');
  END IF;
END $$;
REVOKE ALL ON FUNCTION spillway.wake_worker() FROM PUBLIC;

-- Puts an event with a priority, or one whose time has not come, where it belongs. Always false: it is
-- called in a condition, see below.
CREATE OR REPLACE FUNCTION spillway.enqueue_apart(
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

-- enable_seqscan is off in both: a session that calls them by the thousand keeps the plans of its first
-- call, made when the tables may have been empty. jit is off for plans that have a seqscan all the same.

-- A dead event is tried again, with all its attempts, before the later events of its stream that are
-- still to be done. One that waits for its next attempt is due now. False when it is neither.
CREATE OR REPLACE FUNCTION spillway.retry(event_id bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET jit = off AS $$
DECLARE
  event_stream text;
  ended_process boolean;
BEGIN
  -- First, because this waits for a batch that has just handled the event, and whose verdict may be
  -- that it is dead.
  UPDATE spillway.waiting w SET due_at = least(w.due_at, clock_timestamp())
  WHERE w.event_id = retry.event_id AND w.attempts > 0 AND isfinite(w.due_at)
    AND NOT w.discarded;
  IF NOT FOUND THEN
    DELETE FROM spillway.dead_letters d USING spillway.events e
    WHERE d.event_id = retry.event_id AND e.id = d.event_id
    RETURNING e.stream, d.suspect INTO event_stream, ended_process;
    IF NOT FOUND THEN
      RETURN false;
    END IF;
    INSERT INTO spillway.waiting (event_id, lane, stream, attempts, due_at, suspect)
    VALUES (retry.event_id, spillway.lane_of(event_stream, retry.event_id), event_stream, 0,
            clock_timestamp(), ended_process)
    ON CONFLICT ON CONSTRAINT waiting_pkey DO UPDATE
    SET attempts = 0, due_at = excluded.due_at, error = NULL, sqlstate = NULL, suspect = excluded.suspect;
  END IF;
  PERFORM spillway.wake_worker();
  RETURN true;
END $$;

-- A dead event is given up for good: it counts as done. If it held back its stream, a worker lets the
-- next event of the stream go. False when it is not dead.
CREATE OR REPLACE FUNCTION spillway.discard(event_id bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET jit = off AS $$
BEGIN
  DELETE FROM spillway.dead_letters d WHERE d.event_id = discard.event_id;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  -- Deleting the row here could miss an event that a running batch is just putting behind it, which
  -- nothing would ever start.
  UPDATE spillway.waiting w SET discarded = true, due_at = clock_timestamp()
  WHERE w.event_id = discard.event_id;
  IF FOUND THEN
    PERFORM spillway.wake_worker();
  END IF;
  RETURN true;
END $$;
