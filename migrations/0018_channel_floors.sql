-- What each channel lost when old broadcasts were dropped, so that a client is reset only for what its
-- own channels carried behind its id.

-- `next` is in the partition that was written down last, and counts once the floor has reached it: by then
-- that partition is dropped. Until then `position` counts, which was dropped before.
CREATE TABLE spillway.channel_floors (
  channel  text COLLATE "C" PRIMARY KEY,
  position bigint NOT NULL,  -- 0: nothing that is known of
  next     bigint NOT NULL
);
COMMENT ON TABLE spillway.channel_floors IS 'For each channel the newest broadcast that was dropped.';

-- One row: what channel_floors can be asked for. It knows of everything that was dropped from behind
-- `since` up to `upto`. Where `upto` lies below the floor, somebody dropped without writing down (a process
-- of an earlier version): then nothing below the floor can be judged.
CREATE TABLE spillway.channel_floors_known (
  one      boolean PRIMARY KEY DEFAULT true CHECK (one),
  since    bigint NOT NULL,
  upto     bigint NOT NULL,
  channels bigint NOT NULL DEFAULT 0  -- rows of channel_floors
);
-- Nobody knows what was dropped before today.
INSERT INTO spillway.channel_floors_known (since, upto) SELECT floor, floor FROM spillway.stream_head;

-- The oldest partition, if it is due: all of it older than `before`, or beyond the last `keep` positions
-- and older than `settled` (stream servers that read from here must have had the time to), or without rows.
CREATE FUNCTION spillway.due_broadcasts(
  before timestamptz, keep bigint, settled timestamptz, OUT partition regclass, OUT last bigint
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  head bigint;
  newest_row timestamptz;
BEGIN
  SELECT h.last INTO head FROM spillway.stream_head h;
  SELECT p.partition, p.last INTO partition, last FROM spillway.broadcast_partitions p
  WHERE p.last <= head ORDER BY p.last LIMIT 1;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  EXECUTE format('SELECT created_at FROM %s ORDER BY position DESC LIMIT 1', partition) INTO newest_row;
  IF (newest_row IS NULL OR newest_row < before OR (last <= head - keep AND newest_row < settled)) IS NOT TRUE THEN
    partition := NULL;
    last := NULL;
  END IF;
END $$;
REVOKE ALL ON FUNCTION spillway.due_broadcasts(timestamptz, bigint, timestamptz) FROM PUBLIC;

-- Writes down what the channels lose with the partition that is due to be dropped, in a transaction before
-- the one that drops it, so that nobody waits for it. Keeps `most` channels: beyond that the oldest go, a
-- tenth of them at once, and what lies before them cannot be judged any more. True: written; false: nothing
-- to do; null: somebody is in the way, try again later.
CREATE FUNCTION spillway.note_channel_floors(
  before timestamptz, keep bigint, settled timestamptz, most bigint
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
SET work_mem = '64MB' AS $$
DECLARE
  due record;
  known record;
  added bigint;
  cut bigint;
  removed bigint;
BEGIN
  IF NOT pg_try_advisory_xact_lock(x'53504c42'::int, 2) THEN
    RETURN NULL;
  END IF;
  BEGIN
    SELECT d.partition, d.last INTO due FROM spillway.due_broadcasts(before, keep, settled) d;
    IF due.partition IS NULL THEN
      RETURN false;
    END IF;
    -- From here on nobody drops it.
    EXECUTE format('LOCK TABLE %s IN ACCESS SHARE MODE', due.partition);
  EXCEPTION WHEN lock_not_available OR undefined_table OR syntax_error THEN
    RETURN NULL;  -- it is being dropped; the name of what is gone is a number
  END;
  SELECT h.floor, k.since, k.upto, k.channels INTO known
  FROM spillway.stream_head h, spillway.channel_floors_known k;
  IF known.upto >= due.last THEN
    RETURN false;
  ELSIF known.upto > known.floor THEN
    RETURN NULL;  -- what was written down last has not been dropped yet
  ELSIF known.upto < known.floor THEN
    DELETE FROM spillway.channel_floors;
    known.since := known.floor;
    known.channels := 0;
  END IF;

  EXECUTE format(
    'WITH written AS (
       INSERT INTO spillway.channel_floors AS f (channel, position, next)
       SELECT b.channel, 0, max(b.position) FROM %s b GROUP BY b.channel
       ON CONFLICT (channel) DO UPDATE SET position = f.next, next = excluded.next
       RETURNING f.xmax = 0 AS added)
     SELECT count(*) FILTER (WHERE w.added) FROM written w', due.partition)
  INTO added;
  known.channels := known.channels + added;
  IF known.channels > most THEN
    SELECT f.next INTO cut FROM spillway.channel_floors f ORDER BY f.next DESC OFFSET most - most / 10 LIMIT 1;
    DELETE FROM spillway.channel_floors f WHERE f.next <= cut;
    GET DIAGNOSTICS removed = ROW_COUNT;
    known.channels := known.channels - removed;
    known.since := greatest(known.since, cut);
  END IF;
  UPDATE spillway.channel_floors_known
  SET since = known.since, upto = due.last, channels = known.channels;
  RETURN true;
END $$;
REVOKE ALL ON FUNCTION spillway.note_channel_floors(timestamptz, bigint, timestamptz, bigint) FROM PUBLIC;

-- Drops the oldest partition when it is due (see due_broadcasts). The floor moves in the same transaction,
-- and readers lock the table before they take their snapshot: none of them sees the rows gone and the floor
-- where it was. Returns the new floor; 0: nothing to do; null: try again later.
CREATE OR REPLACE FUNCTION spillway.drop_broadcasts(before timestamptz, keep bigint, settled timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
  due record;
BEGIN
  IF NOT pg_try_advisory_xact_lock(x'53504c42'::int, 0) THEN
    RETURN NULL;
  END IF;
  FOR locked IN 0..1 LOOP
    SELECT d.partition, d.last INTO due FROM spillway.due_broadcasts(before, keep, settled) d;
    IF due.partition IS NULL THEN
      RETURN 0;
    END IF;
    IF locked = 0 AND NOT spillway.lock_broadcasts() THEN
      RETURN NULL;
    END IF;
  END LOOP;
  BEGIN
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', due.partition);
    UPDATE spillway.stream_head SET floor = greatest(floor, due.last);
    EXECUTE format('DROP TABLE %s', due.partition);
    RETURN due.last;
  EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
  END;
END $$;

-- Who may drop may write down; who reads the line reads this too.
DO $$
DECLARE
  granted record;
BEGIN
  FOR granted IN
    SELECT DISTINCT a.grantee FROM pg_proc p, aclexplode(p.proacl) a
    WHERE p.oid = 'spillway.drop_broadcasts(timestamptz, bigint, timestamptz)'::regprocedure
      AND a.privilege_type = 'EXECUTE' AND a.grantee <> p.proowner
  LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION spillway.note_channel_floors(timestamptz, bigint, timestamptz, bigint) TO %s',
                   CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END);
  END LOOP;
  FOR granted IN
    SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) a
    WHERE c.oid = 'spillway.stream_head'::regclass AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
  LOOP
    EXECUTE format('GRANT SELECT ON spillway.channel_floors, spillway.channel_floors_known TO %s',
                   CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END);
  END LOOP;
END $$;
