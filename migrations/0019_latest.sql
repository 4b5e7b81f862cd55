-- Latest channels: their newest broadcast outlives the partition that it is in.

-- Which channels these are, as the processes that serve streams were told (--latest); what none of them has
-- named for 30 days is forgotten.
CREATE TABLE spillway.latest_channels (
  pattern text COLLATE "C" PRIMARY KEY,  -- a channel, or Prefix:*, or * for all
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE spillway.latest_channels IS 'Channels of which a late joiner gets the newest frame only.';

-- The newest broadcast of each such channel that was dropped.
CREATE TABLE spillway.latest_broadcasts (
  channel    text COLLATE "C" PRIMARY KEY,
  position   bigint NOT NULL,
  event_type text NOT NULL,
  data       json NOT NULL
);
COMMENT ON TABLE spillway.latest_broadcasts IS 'The newest broadcast of each latest channel whose partition was dropped.';

-- Keeps what is newest in the partition that is due to be dropped, of `most` channels: beyond that the
-- oldest go. In a transaction before the one that drops it. True: there is something to keep and it is kept;
-- false: nothing to do; null: somebody is in the way, try again later.
CREATE FUNCTION spillway.keep_latest_broadcasts(
  before timestamptz, keep bigint, settled timestamptz, most bigint DEFAULT 100000
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
SET work_mem = '64MB' AS $$
DECLARE
  due record;
BEGIN
  IF NOT EXISTS (SELECT FROM spillway.latest_channels) THEN
    RETURN false;
  END IF;
  IF NOT pg_try_advisory_xact_lock(x'53504c42'::int, 2) THEN
    RETURN NULL;
  END IF;
  BEGIN
    SELECT d.partition, d.last INTO due FROM spillway.due_broadcasts(before, keep, settled) d;
    IF due.partition IS NULL THEN
      RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE %s IN ACCESS SHARE MODE', due.partition);
  EXCEPTION WHEN lock_not_available OR undefined_table OR syntax_error THEN
    RETURN NULL;  -- it is being dropped; the name of what is gone is a number
  END;
  DELETE FROM spillway.latest_channels l WHERE l.seen_at < clock_timestamp() - interval '30 days';
  DELETE FROM spillway.latest_broadcasts b
  WHERE NOT EXISTS (
    SELECT FROM spillway.latest_channels l
    WHERE l.pattern = '*' OR l.pattern = b.channel
       OR l.pattern LIKE '%:*' AND starts_with(b.channel, left(l.pattern, -1)));
  EXECUTE format(
    'INSERT INTO spillway.latest_broadcasts AS k (channel, position, event_type, data)
     SELECT b.channel, b.position, b.event_type, b.data
     FROM (SELECT o.channel, max(o.position) AS position FROM %1$s o
           WHERE EXISTS (
             SELECT FROM spillway.latest_channels l
             WHERE l.pattern = ''*'' OR l.pattern = o.channel
                OR l.pattern LIKE ''%%:*'' AND starts_with(o.channel, left(l.pattern, -1)))
           GROUP BY o.channel ORDER BY 2 DESC LIMIT $1) newest
     JOIN %1$s b ON b.position = newest.position
     ON CONFLICT (channel) DO UPDATE
     SET position = excluded.position, event_type = excluded.event_type, data = excluded.data
     WHERE k.position < excluded.position', due.partition)
  USING most;
  DELETE FROM spillway.latest_broadcasts k
  WHERE k.position <= (SELECT b.position FROM spillway.latest_broadcasts b ORDER BY b.position DESC OFFSET most LIMIT 1);
  RETURN true;
END $$;
REVOKE ALL ON FUNCTION spillway.keep_latest_broadcasts(timestamptz, bigint, timestamptz, bigint) FROM PUBLIC;

-- Who may drop may keep; who reads the line reads this too.
DO $$
DECLARE
  granted record;
BEGIN
  FOR granted IN
    SELECT DISTINCT a.grantee FROM pg_proc p, aclexplode(p.proacl) a
    WHERE p.oid = 'spillway.drop_broadcasts(timestamptz, bigint, timestamptz)'::regprocedure
      AND a.privilege_type = 'EXECUTE' AND a.grantee <> p.proowner
  LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION spillway.keep_latest_broadcasts(timestamptz, bigint, timestamptz, bigint) TO %s',
                   CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END);
  END LOOP;
  FOR granted IN
    SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) a
    WHERE c.oid = 'spillway.stream_head'::regclass AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
  LOOP
    EXECUTE format('GRANT SELECT ON spillway.latest_broadcasts, spillway.latest_channels TO %s',
                   CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END);
  END LOOP;
END $$;
