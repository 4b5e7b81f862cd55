-- How long things are kept.

-- Broadcasts in partitions, so that old ones go by DROP TABLE. What is there becomes the first of them.
DO $$
DECLARE
  old_lock_timeout text := current_setting('lock_timeout');
  head bigint;
  filled boolean;
  owner oid;
  privileges text[];
  views text[];
  statement text;
BEGIN
  -- Nobody gives out positions meanwhile, and nobody waits behind us for a long transaction: the locks
  -- are tried for a moment at a time, in the order in which whoever writes broadcasts takes them.
  FOR attempt IN 1..600 LOOP
    BEGIN
      PERFORM set_config('lock_timeout', '200ms', true);
      LOCK TABLE spillway.stream_head IN EXCLUSIVE MODE;
      LOCK TABLE spillway.broadcasts IN ACCESS EXCLUSIVE MODE;
      EXIT;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
      IF attempt = 600 THEN
        RAISE EXCEPTION 'spillway.broadcasts is in use by a transaction that does not end'
          USING ERRCODE = '55P03', HINT = 'End it (see pg_locks and pg_stat_activity), then migrate again.';
      END IF;
      PERFORM pg_sleep(0.5);
    END;
  END LOOP;
  PERFORM set_config('lock_timeout', old_lock_timeout, true);

  SELECT c.relowner INTO owner FROM pg_class c WHERE c.oid = 'spillway.broadcasts'::regclass;
  SELECT array_agg(format('GRANT %s%s ON spillway.broadcasts TO %s%s', a.privilege_type, '(' || quote_ident(g.attname) || ')',
                          CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
                          CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END))
  INTO privileges
  FROM (SELECT NULL AS attname, relacl AS acl FROM pg_class WHERE oid = 'spillway.broadcasts'::regclass
        UNION ALL SELECT attname, attacl FROM pg_attribute WHERE attrelid = 'spillway.broadcasts'::regclass) g,
       aclexplode(g.acl) a;
  -- Views hold on to the table itself, not to its name.
  SELECT array_agg(format('CREATE OR REPLACE VIEW %s %s AS %s', v.oid::regclass,
                          'WITH (' || array_to_string(v.reloptions, ', ') || ')', pg_get_viewdef(v.oid)))
  INTO views
  FROM pg_class v
  WHERE v.relkind = 'v' AND v.oid IN (
    SELECT r.ev_class FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = 'spillway.broadcasts'::regclass);

  SELECT greatest(h.last, b.last), b.last IS NOT NULL INTO head, filled
  FROM spillway.stream_head h, (SELECT max(position) AS last FROM spillway.broadcasts) b;
  ALTER TABLE spillway.broadcasts RENAME TO broadcasts_1;
  ALTER INDEX spillway.broadcasts_pkey RENAME TO broadcasts_1_pkey;
  ALTER INDEX spillway.broadcasts_channel RENAME TO broadcasts_1_channel;

  CREATE TABLE spillway.broadcasts (
    position   bigint PRIMARY KEY,
    channel    text COLLATE "C" NOT NULL,
    event_type text NOT NULL,
    data       json NOT NULL,
    event_id   bigint,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
  ) PARTITION BY RANGE (position);
  CREATE INDEX broadcasts_channel ON spillway.broadcasts (channel, position);
  COMMENT ON TABLE spillway.broadcasts IS 'Broadcasts in commit order, dense positions; streams replay from here.';
  IF filled THEN
    EXECUTE format('ALTER TABLE spillway.broadcasts ATTACH PARTITION spillway.broadcasts_1 FOR VALUES FROM (MINVALUE) TO (%s)', head + 1);
    EXECUTE format('CREATE TABLE spillway.broadcasts_%s PARTITION OF spillway.broadcasts FOR VALUES FROM (%s) TO (MAXVALUE)', head + 1, head + 1);
  ELSE
    ALTER TABLE spillway.broadcasts ATTACH PARTITION spillway.broadcasts_1 FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
  END IF;
  FOREACH statement IN ARRAY coalesce(views, '{}') || coalesce(privileges, '{}') LOOP
    EXECUTE statement;
  END LOOP;
  IF owner <> (SELECT oid FROM pg_roles WHERE rolname = current_user) THEN
    EXECUTE format('ALTER TABLE spillway.broadcasts OWNER TO %s', owner::regrole);
  END IF;
END $$;

-- The newest partition is open at its end, so there is a place for every position, whatever has become
-- of the upkeep. first: null for what has no lower bound; last: null for the open one.
CREATE VIEW spillway.broadcast_partitions AS
SELECT c.oid::regclass AS partition,
       (regexp_match(b.bounds, 'FROM \(''?(-?\d+)'))[1]::bigint AS first,
       (regexp_match(b.bounds, 'TO \(''?(-?\d+)'))[1]::bigint - 1 AS last,
       pg_total_relation_size(c.oid) AS bytes
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid,
LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bounds) b
WHERE i.inhparent = 'spillway.broadcasts'::regclass;
COMMENT ON VIEW spillway.broadcast_partitions IS 'The partitions of spillway.broadcasts, with the positions they are for.';

-- True once nobody can use spillway.broadcasts until the transaction ends; false when that cannot be had
-- in a moment. Everybody waits behind who waits for this lock, so it is not even asked for while a long
-- transaction holds the table.
CREATE FUNCTION spillway.lock_broadcasts() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
BEGIN
  IF EXISTS (
       SELECT FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
       WHERE l.locktype = 'relation' AND l.relation = 'spillway.broadcasts'::regclass AND l.granted
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
         AND l.pid <> pg_backend_pid() AND a.xact_start < clock_timestamp() - interval '1 second') THEN
    RETURN false;
  END IF;
  LOCK TABLE ONLY spillway.broadcasts IN ACCESS EXCLUSIVE MODE;
  RETURN true;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
  RETURN false;
END $$;
REVOKE ALL ON FUNCTION spillway.lock_broadcasts() FROM PUBLIC;

-- Keeps a partition of `rows` positions ready between the head and the open one. Closes the one that is
-- written to when it holds twice as many, or its first row is older than `oldest`, so that it can go in
-- time. True: done; false: nothing to do; null: somebody is in the way, try again later.
CREATE FUNCTION spillway.extend_broadcasts(rows bigint, oldest timestamptz DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
  head bigint;
  open_end record;     -- the open partition
  current_one record;  -- the one that holds the head
  empty_one record;
  closing boolean;
  used boolean;
  next bigint;
BEGIN
  IF NOT pg_try_advisory_xact_lock(x'53504c42'::int, 0) THEN  -- one upkeep at a time
    RETURN NULL;
  END IF;
  FOR locked IN 0..1 LOOP
    SELECT h.last INTO head FROM spillway.stream_head h;
    SELECT p.partition, coalesce(p.first, 1) AS first, coalesce(p.first::text, 'MINVALUE') AS bound
    INTO open_end FROM spillway.broadcast_partitions p WHERE p.last IS NULL;
    SELECT p.partition, p.last, coalesce(p.first, 1) AS first, coalesce(p.first::text, 'MINVALUE') AS bound
    INTO current_one FROM spillway.broadcast_partitions p
    WHERE coalesce(p.first, 1) <= head AND (p.last IS NULL OR p.last > head);
    closing := current_one.last IS NULL OR head - current_one.first >= 2 * rows;
    IF current_one.partition IS NULL THEN
      closing := false;
    ELSIF NOT closing AND oldest IS NOT NULL THEN
      EXECUTE format('SELECT created_at < $1 FROM %s ORDER BY position LIMIT 1', current_one.partition)
      INTO closing USING oldest;
    END IF;
    IF closing IS NOT TRUE AND open_end.first - head > rows THEN
      RETURN false;
    END IF;
    IF locked = 0 AND NOT spillway.lock_broadcasts() THEN
      RETURN NULL;
    END IF;
  END LOOP;

  BEGIN
    IF closing THEN
      EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', current_one.partition);
      EXECUTE format('ALTER TABLE spillway.broadcasts DETACH PARTITION %s', current_one.partition);
      EXECUTE format('ALTER TABLE spillway.broadcasts ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)',
                     current_one.partition, current_one.bound, head + 1);
      FOR empty_one IN SELECT p.partition FROM spillway.broadcast_partitions p WHERE p.first > head + 1 OR p.last IS NULL LOOP
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', empty_one.partition);
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', empty_one.partition) INTO used;
        IF used THEN
          RAISE EXCEPTION 'spillway.broadcasts has positions behind %, where stream_head stands', head;
        END IF;
        EXECUTE format('DROP TABLE %s', empty_one.partition);
      END LOOP;
      next := head + 1 + rows;
      EXECUTE format('CREATE TABLE spillway.broadcasts_%s PARTITION OF spillway.broadcasts FOR VALUES FROM (%s) TO (%s)',
                     head + 1, head + 1, next);
    ELSE
      next := open_end.first + rows;
      EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', open_end.partition);
      EXECUTE format('ALTER TABLE spillway.broadcasts DETACH PARTITION %s', open_end.partition);
      EXECUTE format('ALTER TABLE spillway.broadcasts ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)',
                     open_end.partition, open_end.bound, next);
    END IF;
    EXECUTE format('CREATE TABLE spillway.broadcasts_%s PARTITION OF spillway.broadcasts FOR VALUES FROM (%s) TO (MAXVALUE)',
                   next, next);
    RETURN true;
  EXCEPTION WHEN lock_not_available THEN  -- by somebody who uses a partition directly, such as autovacuum
    RETURN NULL;
  END;
END $$;
REVOKE ALL ON FUNCTION spillway.extend_broadcasts(bigint, timestamptz) FROM PUBLIC;

-- Drops the oldest partition when all of it is older than `before`, or beyond the last `keep` positions
-- and older than `settled` (stream servers that read from here must have had the time to). The floor moves
-- in the same transaction, and readers lock the table before they take their snapshot: none of them sees
-- the rows gone and the floor where it was. Returns the new floor; 0: nothing to do; null: try again later.
CREATE FUNCTION spillway.drop_broadcasts(before timestamptz, keep bigint, settled timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
  head bigint;
  oldest record;
  newest_row timestamptz;
  due boolean;
BEGIN
  IF NOT pg_try_advisory_xact_lock(x'53504c42'::int, 0) THEN
    RETURN NULL;
  END IF;
  FOR locked IN 0..1 LOOP
    SELECT h.last INTO head FROM spillway.stream_head h;
    SELECT p.partition, p.last INTO oldest FROM spillway.broadcast_partitions p
    WHERE p.last <= head ORDER BY p.last LIMIT 1;
    IF NOT FOUND THEN
      RETURN 0;
    END IF;
    EXECUTE format('SELECT created_at FROM %s ORDER BY position DESC LIMIT 1', oldest.partition) INTO newest_row;
    -- One without rows is of no use to anybody.
    due := newest_row IS NULL OR newest_row < before
           OR (oldest.last <= head - keep AND newest_row < settled);
    IF due IS NOT TRUE THEN
      RETURN 0;
    END IF;
    IF locked = 0 AND NOT spillway.lock_broadcasts() THEN
      RETURN NULL;
    END IF;
  END LOOP;
  BEGIN
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE NOWAIT', oldest.partition);
    UPDATE spillway.stream_head SET floor = greatest(floor, oldest.last);
    EXECUTE format('DROP TABLE %s', oldest.partition);
    RETURN oldest.last;
  EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
  END;
END $$;
REVOKE ALL ON FUNCTION spillway.drop_broadcasts(timestamptz, bigint, timestamptz) FROM PUBLIC;

-- The log stays append-only for everybody. Only prune_events() deletes: it runs as the table's owner and
-- says so for its one statement. Another role may say so as well, but is not the owner; the search path is
-- set so that it cannot bring operators of its own that say it is.
CREATE OR REPLACE FUNCTION spillway.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'DELETE' AND current_setting('spillway.pruning', true) = 'on'
     AND (SELECT c.relowner = r.oid FROM pg_class c, pg_roles r
          WHERE c.oid = TG_RELID AND r.rolname = current_user) THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION 'spillway.events is append-only: % is refused', TG_OP
    USING HINT = 'Insert a new event that says what changed. To remove old ones: spillway prune.';
END $$;

-- Removes done events (with `dead`: dead ones too, and their dead letters) that were created and due before
-- `older_than`, among the `most` events that follow id `after`. Kept are events whose webhooks are
-- unfinished, and of each stream the newest event with a version, so that the version never falls back.
-- looked_at < most, or recent = looked_at: there is nothing old behind last_id. All null: somebody else
-- is pruning just now. With `dry_run` it only counts.
CREATE FUNCTION spillway.prune_events(
  older_than timestamptz, after bigint DEFAULT 0, most int DEFAULT 5000, dead boolean DEFAULT false,
  dry_run boolean DEFAULT false,
  OUT last_id bigint, OUT looked_at bigint, OUT recent bigint, OUT pruned bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- The number of ids and the size of the queue make another plan the right one.
SET plan_cache_mode = force_custom_plan AS $$
DECLARE
  candidates bigint[];
  buried bigint[];
BEGIN
  IF NOT pg_try_advisory_xact_lock(x'53504c42'::int, 1) THEN
    RETURN;
  END IF;
  SELECT coalesce(max(w.id), after), count(*), count(*) FILTER (WHERE w.created_at >= older_than),
         array_agg(w.id) FILTER (WHERE w.created_at < older_than AND w.execute_at < older_than)
  INTO last_id, looked_at, recent, candidates
  FROM (SELECT e.id, e.created_at, e.execute_at FROM spillway.events e WHERE e.id > after ORDER BY e.id LIMIT most) w;

  SELECT array_agg(e.id) FILTER (WHERE s.status = 'done'), array_agg(e.id) FILTER (WHERE s.status = 'dead')
  INTO candidates, buried
  FROM spillway.event_status s
  JOIN spillway.events e ON e.id = s.event_id
  WHERE s.event_id = ANY (candidates)
    AND (s.status = 'done' OR s.status = 'dead' AND dead)
    -- A dead letter that holds back its stream, or one that was discarded and is not yet out of the line.
    AND NOT EXISTS (SELECT FROM spillway.waiting l WHERE l.event_id = s.event_id)
    AND NOT EXISTS (SELECT FROM spillway.webhooks w WHERE w.event_id = s.event_id AND w.finished_at IS NULL)
    AND (e.stream_version IS NULL OR EXISTS (
      SELECT FROM spillway.events n WHERE n.stream = e.stream AND n.stream_version > e.stream_version));
  IF dead THEN
    -- One that was retried meanwhile is not dead any more.
    WITH letters AS (
      SELECT d.event_id FROM spillway.dead_letters d
      WHERE d.event_id = ANY (buried) AND d.failed_at < older_than FOR UPDATE SKIP LOCKED
    ), gone AS (
      DELETE FROM spillway.dead_letters d USING letters l
      WHERE d.event_id = l.event_id AND NOT dry_run RETURNING 1
    )
    SELECT candidates || array_agg(l.event_id) INTO candidates FROM letters l;
  END IF;
  pruned := coalesce(cardinality(candidates), 0);
  IF pruned > 0 AND NOT dry_run THEN
    PERFORM set_config('spillway.pruning', 'on', true);
    DELETE FROM spillway.events e WHERE e.id = ANY (candidates);
    PERFORM set_config('spillway.pruning', 'off', true);
  END IF;
END $$;
REVOKE ALL ON FUNCTION spillway.prune_events(timestamptz, bigint, int, boolean, boolean) FROM PUBLIC;

-- Finished webhooks are removed in the order in which they were finished.
CREATE INDEX webhooks_finished_at ON spillway.webhooks (finished_at) WHERE finished_at IS NOT NULL;
