-- Dead letters: tried again, given up for good, or holding back their stream until one of the two.

-- What stands in `waiting` for an event with a stream:
--   due_at is a time    the next attempt is due then; only the first event of a stream may be started
--   due_at is null      held back by the events of the stream before it
--   due_at is infinity  a dead letter that holds back its stream (--dead-stream=hold)
-- The first event of a stream always has a time. Only the owner of the lane takes rows away, and gives
-- the one that is first then a time. Others may add a row with a time, or give an existing one another
-- time. So spillway.retry() and discard() need no lock that a batch would have to wait for.
ALTER TABLE spillway.waiting ADD COLUMN discarded boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN spillway.waiting.discarded IS
  'Given up while it held back its stream: the next batch takes it out of the line without handling it.';

-- What is due is asked before every batch; dead letters at infinity must not be walked for it.
CREATE INDEX waiting_due_at ON spillway.waiting (due_at) WHERE due_at < 'infinity';
CREATE INDEX waiting_timed ON spillway.waiting (stream, event_id)
  WHERE due_at IS NOT NULL AND stream IS NOT NULL;
CREATE INDEX dead_letters_failed_at ON spillway.dead_letters (failed_at, event_id);

-- enable_seqscan is off in both: a session that calls them by the thousand keeps the plans of its first
-- call, made when the tables may have been empty. jit would be tempted by the price of the one seqscan
-- that there is no way around, the sequence's.

-- A dead event is tried again, with all its attempts, before the later events of its stream that are
-- still to be done. One that waits for its next attempt is due now. False when it is neither.
CREATE FUNCTION spillway.retry(event_id bigint) RETURNS boolean
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
  IF (SELECT last_value FROM spillway.armed) = 1 THEN
    PERFORM pg_notify('spillway_events', '');
  END IF;
  RETURN true;
END $$;
REVOKE ALL ON FUNCTION spillway.retry(bigint) FROM PUBLIC;
COMMENT ON FUNCTION spillway.retry(bigint) IS
  'Tries a dead event again, or a retrying one at once; false when it is neither.';

-- A dead event is given up for good: it counts as done. If it held back its stream, a worker lets the
-- next event of the stream go. False when it is not dead.
CREATE FUNCTION spillway.discard(event_id bigint) RETURNS boolean
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
  IF FOUND AND (SELECT last_value FROM spillway.armed) = 1 THEN
    PERFORM pg_notify('spillway_events', '');
  END IF;
  RETURN true;
END $$;
REVOKE ALL ON FUNCTION spillway.discard(bigint) FROM PUBLIC;
COMMENT ON FUNCTION spillway.discard(bigint) IS
  'Gives a dead event up for good and lets its stream go on; false when it is not dead.';

CREATE OR REPLACE VIEW spillway.event_status AS
SELECT e.id AS event_id,
       e.type,
       CASE WHEN d.event_id IS NOT NULL THEN 'dead'
            WHEN w.discarded THEN 'done'
            WHEN w.attempts > 0 THEN 'retrying'
            WHEN w.event_id IS NOT NULL OR q.event_id IS NOT NULL OR r.event_id IS NOT NULL THEN 'pending'
            WHEN s.event_id IS NOT NULL THEN 'scheduled'
            ELSE 'done' END AS status,
       CASE WHEN d.event_id IS NOT NULL THEN d.attempts
            WHEN w.discarded THEN NULL
            WHEN w.event_id IS NOT NULL THEN w.attempts
            WHEN q.event_id IS NOT NULL OR r.event_id IS NOT NULL OR s.event_id IS NOT NULL THEN 0
       END AS attempts,
       CASE WHEN d.event_id IS NULL AND w.discarded IS NOT TRUE
            THEN coalesce(w.due_at, s.due_at) END AS next_attempt_at,
       coalesce(d.error, w.error,
                CASE WHEN w.event_id IS NOT NULL AND w.due_at IS NULL THEN
                  (SELECT format(CASE WHEN h.due_at = 'infinity'
                     THEN 'held back by event %1$s of the same stream, a dead letter: '
                          'spillway.retry(%1$s) or spillway.discard(%1$s)'
                     ELSE 'held back by event %1$s of the same stream' END, h.event_id)
                   FROM spillway.waiting h WHERE h.stream = w.stream
                   ORDER BY h.event_id LIMIT 1) END) AS last_error
FROM spillway.events e
LEFT JOIN spillway.dead_letters d ON d.event_id = e.id
LEFT JOIN spillway.waiting w ON w.event_id = e.id
LEFT JOIN spillway.scheduled s ON s.event_id = e.id
LEFT JOIN spillway.queue q ON q.event_id = e.id
LEFT JOIN spillway.ranked r ON r.event_id = e.id;
