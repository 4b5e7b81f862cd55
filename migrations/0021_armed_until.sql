-- A NOTIFY is wanted until a time, not until somebody says otherwise: workers that were stopped for the
-- night leave inserts alone.

-- Until when a worker that sleeps wants a NOTIFY: the server's clock, in milliseconds since 1970; 0 when
-- none does. Who sleeps says it anew long before. A worker of the time before this sets 1 instead, which
-- is long ago, and takes any time for "nobody sleeps": it polls once a second, and ends at the first look
-- that finds this migration.
ALTER SEQUENCE spillway.armed AS bigint MINVALUE 0 MAXVALUE 9223372036854775807;
SELECT setval('spillway.armed', 0);

-- Whether some worker sleeps. The clock is read before the sequence: whoever finds the time over has found
-- it over before anybody could set a later one, and is waited for by the one who does. Simple enough to be
-- inlined where it is called.
CREATE FUNCTION spillway.is_armed() RETURNS boolean
LANGUAGE sql VOLATILE
RETURN date_part('epoch', clock_timestamp()) * 1000 < pg_sequence_last_value('spillway.armed');

-- Notifies, if some worker sleeps.
CREATE OR REPLACE FUNCTION spillway.wake_worker() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF spillway.is_armed() THEN
    PERFORM pg_notify('spillway_events', '');
  END IF;
END $$;

-- As before (0020), but for the last condition.
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
  IF FOUND AND spillway.is_armed() THEN
    PERFORM pg_catalog.pg_notify('spillway_events', '');
  END IF;
  RETURN NULL;
END $$;
