-- The number of lanes is a setting of the database: 8, until `spillway migrate --lanes N` says otherwise.

-- What says how many lanes there are, and which one an event runs in: all events of a stream in one. The
-- number is written into the functions, which are inlined into every plan that calls them, so it costs
-- nothing to read; plans that have it are made anew once the functions are replaced. hashtextextended is
-- what hash partitioning uses, so it does not change between PostgreSQL versions.
CREATE FUNCTION spillway.define_lanes(lanes int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $define$
BEGIN
  EXECUTE format('CREATE OR REPLACE FUNCTION spillway.lane_count() RETURNS int
                  LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN %s', lanes);
  EXECUTE format('CREATE OR REPLACE FUNCTION spillway.lane_of(stream text, event_id bigint) RETURNS smallint
                  LANGUAGE sql IMMUTABLE PARALLEL SAFE
                  RETURN ((CASE WHEN stream IS NULL THEN event_id ELSE hashtextextended(stream, 0) END
                           & 9223372036854775807) %% %s)::smallint', lanes);
END $define$;
REVOKE ALL ON FUNCTION spillway.define_lanes(int) FROM PUBLIC;

-- As before: of a power of two the remainder is the lowest bits.
SELECT spillway.define_lanes(8);

-- Shares what is queued out over another number of lanes. Until the transaction ends nobody inserts and no
-- batch runs.
--
-- All that is queued draws a new seq, in the order of the old ones. So the events of a stream keep their
-- order, whichever lanes they come from and go to; and below every seq that a worker knows to be settled in
-- a lane nothing appears (processor/lane_marks.hpp), so workers have nothing to forget. Nor does it matter
-- when they hear of the new number: whoever owns a lane may run what is in it.
CREATE FUNCTION spillway.set_lanes(lanes int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  newest bigint;
BEGIN
  IF lanes IS NULL OR lanes NOT BETWEEN 1 AND 64 THEN
    RAISE EXCEPTION 'there cannot be % lanes: write a number from 1 to 64', coalesce(lanes::text, 'null')
      USING ERRCODE = '22023';
  END IF;
  -- The batches in hand end first. 1397771351 is lane_lock_class in processor/queue_store.hpp.
  PERFORM pg_advisory_xact_lock(1397771351, lane) FROM generate_series(0, 63) lane;
  -- Whoever inserts locks the queue before the lane is worked out, whoever looks for an event in its lane
  -- before the snapshot. Nothing is waited for while this lock is held: somebody might hold what is
  -- waited for, and be about to insert.
  LOCK TABLE spillway.queue IN ACCESS EXCLUSIVE MODE;
  LOCK TABLE spillway.ranked, spillway.scheduled, spillway.waiting, spillway.suspicion, spillway.suspects
    IN EXCLUSIVE MODE NOWAIT;
  IF lanes = spillway.lane_count() THEN
    RETURN;
  END IF;
  PERFORM spillway.define_lanes(lanes);
  newest := nextval('spillway.queue_seq');

  -- Events are looked up one by one (OFFSET 0): a join may walk the log from its beginning.
  WITH moved AS MATERIALIZED (
    SELECT o.ranked, o.lane AS old_lane, o.seq AS old_seq, spillway.lane_of(e.stream, o.event_id) AS lane,
           nextval('spillway.queue_seq') AS seq
    FROM (SELECT false AS ranked, q.lane, q.seq, q.event_id FROM spillway.queue q
          UNION ALL SELECT true, r.lane, r.seq, r.event_id FROM spillway.ranked r ORDER BY seq) o
    CROSS JOIN LATERAL (SELECT stream FROM spillway.events WHERE events.id = o.event_id OFFSET 0) e
  ), common AS (
    UPDATE spillway.queue q SET lane = m.lane, seq = m.seq
    FROM moved m WHERE NOT m.ranked AND q.lane = m.old_lane AND q.seq = m.old_seq
  ), urgent AS (  -- which seq they come after is looked up anew
    UPDATE spillway.ranked r SET lane = m.lane, seq = m.seq, after_seq = NULL
    FROM moved m WHERE m.ranked AND r.lane = m.old_lane AND r.seq = m.old_seq
  ), suspected AS (
    SELECT m.lane, max(m.seq) AS until_seq
    FROM moved m JOIN spillway.suspicion s ON s.lane = m.old_lane AND m.old_seq <= s.until_seq
    GROUP BY m.lane
  )
  INSERT INTO spillway.suspicion (lane, until_seq)  -- any lane may have got a part of one that is suspected
  SELECT l.lane, greatest(newest, u.until_seq)
  FROM generate_series(0, lanes - 1) AS l(lane) LEFT JOIN suspected u ON u.lane = l.lane
  WHERE EXISTS (SELECT FROM spillway.suspicion)
  ON CONFLICT (lane) DO UPDATE SET until_seq = excluded.until_seq;
  DELETE FROM spillway.suspicion s WHERE s.lane >= lanes;

  UPDATE spillway.waiting w SET lane = spillway.lane_of(w.stream, w.event_id);
  UPDATE spillway.scheduled s SET lane = spillway.lane_of(e.stream, s.event_id)
  FROM (SELECT o.event_id, e.stream FROM spillway.scheduled o
        CROSS JOIN LATERAL (SELECT stream FROM spillway.events WHERE events.id = o.event_id OFFSET 0) e) e
  WHERE s.event_id = e.event_id;
  UPDATE spillway.suspects s SET lane = spillway.lane_of(e.stream, s.event_id)
  FROM spillway.events e WHERE e.id = s.event_id;

  -- Whoever sleeps has looked into the lanes that there were.
  PERFORM pg_notify('spillway_events', '');
END $$;
REVOKE ALL ON FUNCTION spillway.set_lanes(int) FROM PUBLIC;
COMMENT ON FUNCTION spillway.set_lanes(int) IS
  'For `spillway migrate --lanes N`, which tries again when it is in the way.';
