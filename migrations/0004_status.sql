-- What users ask and call.

CREATE VIEW spillway.event_status AS
SELECT e.id AS event_id,
       e.type,
       CASE WHEN d.event_id IS NOT NULL THEN 'dead'
            WHEN w.attempts > 0 THEN 'retrying'
            WHEN w.event_id IS NOT NULL OR q.event_id IS NOT NULL THEN 'pending'
            WHEN s.event_id IS NOT NULL THEN 'scheduled'
            ELSE 'done' END AS status,
       CASE WHEN d.event_id IS NOT NULL THEN d.attempts
            WHEN w.event_id IS NOT NULL THEN w.attempts
            WHEN q.event_id IS NOT NULL OR s.event_id IS NOT NULL THEN 0 END AS attempts,
       coalesce(w.due_at, s.due_at) AS next_attempt_at,
       coalesce(d.error, w.error,
                CASE WHEN w.event_id IS NOT NULL AND w.due_at IS NULL THEN
                  (SELECT format('held back by event %s of the same stream', min(h.event_id))
                   FROM spillway.waiting h WHERE h.stream = w.stream) END) AS last_error
FROM spillway.events e
LEFT JOIN spillway.dead_letters d ON d.event_id = e.id
LEFT JOIN spillway.waiting w ON w.event_id = e.id
LEFT JOIN spillway.scheduled s ON s.event_id = e.id
LEFT JOIN spillway.queue q ON q.event_id = e.id;
COMMENT ON VIEW spillway.event_status IS
  'scheduled | pending | retrying | dead | done; attempts of a done event are not kept (null).';

-- Definer rights, so that append() needs no more than INSERT on events.
CREATE FUNCTION spillway.stream_version(stream text) RETURNS int
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(max(e.stream_version), 0) FROM spillway.events e
  WHERE e.stream = $1 AND e.stream_version IS NOT NULL
$$;

-- Adds an event to a stream as version expected_version + 1. 0 means: the stream has none yet; null:
-- after whatever is there. A version that is not the stream's raises SQLSTATE 40001: read the stream
-- again and decide anew.
CREATE FUNCTION spillway.append(
  stream text, expected_version int, type text, payload jsonb DEFAULT '{}',
  context jsonb DEFAULT '{}', correlation_id uuid DEFAULT NULL, causation_id bigint DEFAULT NULL,
  idempotency_key text DEFAULT NULL, priority smallint DEFAULT 0,
  execute_at timestamptz DEFAULT NULL, max_attempts smallint DEFAULT NULL
) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  current_version int;
  next_version int;
  new_id bigint;
BEGIN
  IF stream IS NULL THEN
    RAISE EXCEPTION 'spillway.append needs a stream' USING ERRCODE = '22004',
      HINT = 'Insert into spillway.events for an event that belongs to no stream.';
  END IF;
  LOOP
    current_version := spillway.stream_version(stream);
    EXIT WHEN expected_version IS NOT NULL AND expected_version <> current_version;
    next_version := current_version + 1;
    INSERT INTO spillway.events (type, payload, stream, stream_version, context, correlation_id,
      causation_id, idempotency_key, priority, execute_at, max_attempts)
    VALUES (append.type, coalesce(append.payload, '{}'), append.stream, next_version,
      coalesce(append.context, '{}'), coalesce(append.correlation_id, gen_random_uuid()),
      append.causation_id, append.idempotency_key, coalesce(append.priority, 0::smallint),
      coalesce(append.execute_at, now()), append.max_attempts)
    ON CONFLICT DO NOTHING
    RETURNING id INTO new_id;
    IF new_id IS NOT NULL THEN
      RETURN new_id;
    END IF;
    -- Somebody else's row is in the way: of this version, or of this idempotency key.
    current_version := spillway.stream_version(stream);
    IF current_version < next_version THEN
      IF append.idempotency_key IS NOT NULL
         AND current_setting('transaction_isolation') = 'read committed' THEN
        RAISE EXCEPTION 'an event with idempotency_key "%" is there already', append.idempotency_key
          USING ERRCODE = '23505', CONSTRAINT = 'events_idempotency_key';
      END IF;
      -- A snapshot older than the row that is in the way.
      current_version := next_version;
      EXIT;
    END IF;
    EXIT WHEN expected_version IS NOT NULL;
  END LOOP;
  RAISE EXCEPTION 'stream "%" is at version %, expected version %', stream, current_version,
    coalesce(expected_version::text, 'any') USING ERRCODE = '40001',
    HINT = 'Read the stream again and decide anew.';
END $$;
