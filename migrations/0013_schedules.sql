-- Events at recurring times: five-field cron expressions, in the local time of a time zone.
--
-- All of it is SQL, so that a wrong expression is refused where it is written, the clock is a
-- parameter, and "once across all workers" is a row lock.

-- The values of one field of a cron expression, ascending. `names` stand for the values from `low` on.
CREATE FUNCTION spillway.cron_field(field text, part text, low int, high int, names text[])
RETURNS int[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  item text;
  piece text[];
  bounds int[];
  step int;
  allowed text := low || ' to ' || high
    || coalesce(' or ' || names[1] || ' to ' || names[array_upper(names, 1)], '');
  chosen int[] := '{}';
BEGIN
  FOREACH item IN ARRAY string_to_array(upper(field), ',') LOOP
    piece := regexp_match(item,
      '^(?:(\*)|([0-9]{1,4}|[A-Z]{3})(?:-([0-9]{1,4}|[A-Z]{3}))?)(?:/([0-9]{1,4}))?$');
    IF piece IS NULL THEN
      RAISE EXCEPTION '% "%" is not understood: write *, a value (%), a range a-b, a step */n or a-b/n, '
        'or several of them with commas between', part, item, allowed USING ERRCODE = '22023';
    END IF;
    step := coalesce(piece[4]::int, 1);
    IF step NOT BETWEEN 1 AND high - low + 1 THEN
      RAISE EXCEPTION 'a step of % in % "%" is out of range: write 1 to %', step, part, item,
        high - low + 1 USING ERRCODE = '22023';
    END IF;
    IF piece[1] IS NOT NULL THEN
      bounds := ARRAY[low, high];
    ELSE
      SELECT array_agg(CASE WHEN v ~ '^[0-9]' THEN v::int ELSE array_position(names, v) + low - 1 END
                       ORDER BY n)
      INTO bounds
      FROM unnest(ARRAY[piece[2], coalesce(piece[3], piece[2])]) WITH ORDINALITY AS u(v, n);
      IF (bounds[1] BETWEEN low AND high AND bounds[2] BETWEEN low AND high) IS NOT TRUE THEN
        RAISE EXCEPTION '% "%" is out of range: write %', part, item, allowed USING ERRCODE = '22023';
      END IF;
      IF bounds[2] = 0 AND high = 7 AND bounds[1] > 0 THEN
        bounds[2] := 7;  -- FRI-SUN: Sunday ends a week as well as it begins one
      END IF;
      IF bounds[2] < bounds[1] THEN
        RAISE EXCEPTION '% "%" goes backwards: write %-%,%-%', part, item, bounds[1], high, low,
          bounds[2] USING ERRCODE = '22023';
      END IF;
      IF piece[4] IS NOT NULL AND piece[3] IS NULL THEN
        RAISE EXCEPTION '% "%" is a step without a range: write %-%/%', part, item, bounds[1], high,
          step USING ERRCODE = '22023';
      END IF;
    END IF;
    chosen := chosen || ARRAY(SELECT generate_series(bounds[1], bounds[2], step));
  END LOOP;
  RETURN ARRAY(SELECT DISTINCT v FROM unnest(chosen) v ORDER BY v);
END $$;

-- The first reading of a clock on the wall, later than `after`, that the fields ask for; null when
-- there is none. `either`: a day need only match one of days and weekdays.
CREATE FUNCTION spillway.next_reading(
  minutes int[], hours int[], days int[], months int[], weekdays int[], either boolean,
  after timestamp
) RETURNS timestamp
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  earliest timestamp := date_trunc('minute', after) + interval '1 minute';
  day date := earliest;
  -- 29 February falls on each weekday once in 28 years; in 40 where the century has no leap year.
  horizon date := day + interval '41 years';
  in_days boolean;
  in_weekdays boolean;
  h int;
  m int;
BEGIN
  WHILE day < horizon LOOP
    IF NOT extract(month FROM day)::int = ANY (months) THEN
      day := date_trunc('month', day::timestamp) + interval '1 month';
      CONTINUE;
    END IF;
    in_days := extract(day FROM day)::int = ANY (days);
    in_weekdays := extract(dow FROM day)::int = ANY (weekdays);
    IF (in_days AND in_weekdays) OR (either AND (in_days OR in_weekdays)) THEN
      IF day > earliest THEN
        RETURN day + make_time(hours[1], minutes[1], 0);
      END IF;
      FOREACH h IN ARRAY hours LOOP
        IF h > extract(hour FROM earliest) THEN
          RETURN day + make_time(h, minutes[1], 0);
        ELSIF h = extract(hour FROM earliest) THEN
          FOREACH m IN ARRAY minutes LOOP
            IF m >= extract(minute FROM earliest) THEN
              RETURN day + make_time(h, m, 0);
            END IF;
          END LOOP;
        END IF;
      END LOOP;
    END IF;
    day := day + 1;
  END LOOP;
  RETURN NULL;
END $$;

-- What the clock on the wall shows at a time, which is given in UTC.
CREATE FUNCTION spillway.wall_clock(time_zone text, at timestamp) RETURNS timestamp
LANGUAGE sql STABLE
RETURN (at AT TIME ZONE 'UTC') AT TIME ZONE time_zone;

-- The moment in (since, until], all of them in UTC, at which the zone's clocks are moved; null when
-- they are not. For spans of a day at most: clocks are not moved twice in one.
CREATE FUNCTION spillway.clock_change(time_zone text, since timestamp, until timestamp)
RETURNS timestamp
LANGUAGE plpgsql STABLE AS $$
DECLARE
  ahead interval := spillway.wall_clock(time_zone, since) - since;
  low bigint := floor(extract(epoch FROM since));
  high bigint := floor(extract(epoch FROM until));
  middle timestamp;
BEGIN
  IF spillway.wall_clock(time_zone, until) - until = ahead THEN
    RETURN NULL;
  END IF;
  WHILE high - low > 1 LOOP
    middle := to_timestamp((low + high) / 2) AT TIME ZONE 'UTC';
    IF spillway.wall_clock(time_zone, middle) - middle = ahead THEN
      low := (low + high) / 2;
    ELSE
      high := (low + high) / 2;
    END IF;
  END LOOP;
  RETURN to_timestamp(high) AT TIME ZONE 'UTC';
END $$;

-- The first tick of a schedule that is later than `after`.
--
-- Where clocks are moved: a schedule whose hours are all 24 has a tick whenever the clock on the wall
-- shows its minute, so it goes on every real hour. Any other is a list of readings, each of which is
-- good for one tick: the first time that it is shown or passed by. Hence once in a repeated hour, and
-- right after a gap in which it would have been. A gap of more than three hours is a day that a
-- country left out; what would have been then is not made up for.
--
-- Times are reckoned as timestamps in UTC: a day of timestamptz is that of the session's time zone.
CREATE FUNCTION spillway.next_tick(cron text, time_zone text, after timestamptz)
RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT AS $$
DECLARE
  expression text := CASE lower(btrim(cron))
    WHEN '@hourly' THEN '0 * * * *'
    WHEN '@daily' THEN '0 0 * * *'
    WHEN '@midnight' THEN '0 0 * * *'
    WHEN '@weekly' THEN '0 0 * * 0'
    WHEN '@monthly' THEN '0 0 1 * *'
    WHEN '@yearly' THEN '0 0 1 1 *'
    WHEN '@annually' THEN '0 0 1 1 *'
    ELSE cron END;
  fields text[] := regexp_split_to_array(regexp_replace(expression, '^\s+|\s+$', '', 'g'), '\s+');
  minutes int[];
  hours int[];
  days int[];
  months int[];
  weekdays int[];
  either boolean;
  every_hour boolean;
  present timestamp;  -- where the search is
  shown timestamp;    -- the latest reading that has had its tick
  reading timestamp;  -- the one looked for
  change timestamp;
  before_change timestamp;
  after_change timestamp;
  span interval;
BEGIN
  IF expression LIKE '@%' THEN
    RAISE EXCEPTION 'cron "%" is not known: write @hourly, @daily, @weekly, @monthly, @yearly, or five '
      'fields', cron USING ERRCODE = '22023';
  ELSIF array_length(fields, 1) <> 5 THEN
    RAISE EXCEPTION 'cron "%" has % field(s): write five, minute hour day-of-month month day-of-week, '
      'e.g. "30 4 * * MON-FRI"', cron, CASE WHEN fields = '{""}' THEN 0 ELSE array_length(fields, 1) END
      USING ERRCODE = '22023';
  END IF;
  BEGIN
    minutes := spillway.cron_field(fields[1], 'minute', 0, 59, NULL);
    hours := spillway.cron_field(fields[2], 'hour', 0, 23, NULL);
    days := spillway.cron_field(fields[3], 'day of month', 1, 31, NULL);
    months := spillway.cron_field(fields[4], 'month', 1, 12,
      '{JAN,FEB,MAR,APR,MAY,JUN,JUL,AUG,SEP,OCT,NOV,DEC}');
    weekdays := spillway.cron_field(fields[5], 'day of week', 0, 7,
      '{SUN,MON,TUE,WED,THU,FRI,SAT}');
  EXCEPTION WHEN invalid_parameter_value THEN
    RAISE EXCEPTION 'cron "%": %', cron, SQLERRM USING ERRCODE = '22023';
  END;
  weekdays := ARRAY(SELECT DISTINCT d % 7 FROM unnest(weekdays) d);
  either := fields[3] NOT LIKE '*%' AND fields[5] NOT LIKE '*%';
  every_hour := cardinality(hours) = 24;
  IF NOT isfinite(after) THEN
    RAISE EXCEPTION 'there is no tick after "%": give a time', after USING ERRCODE = '22023';
  END IF;

  present := after AT TIME ZONE 'UTC';
  shown := spillway.wall_clock(time_zone, present);
  IF NOT every_hour THEN
    change := spillway.clock_change(time_zone, present - interval '1 day', present);
    IF change IS NOT NULL THEN
      shown := greatest(shown, spillway.wall_clock(time_zone, change - interval '1 microsecond'));
    END IF;
  END IF;
  reading := spillway.next_reading(minutes, hours, days, months, weekdays, either, shown);
  IF reading IS NULL THEN
    RAISE EXCEPTION 'cron "%" never comes: no month of it has such a day', cron USING ERRCODE = '22023';
  END IF;

  LOOP
    span := reading - spillway.wall_clock(time_zone, present);
    change := spillway.clock_change(time_zone, present, present + least(span, interval '1 day'));
    IF change IS NULL THEN
      IF span <= interval '1 day' THEN
        RETURN (present + span) AT TIME ZONE 'UTC';
      END IF;
      -- Nothing today. Clocks that are moved meanwhile show no reading that is asked for, until
      -- shortly before this one.
      present := greatest(present + interval '1 day', present + span - interval '2 days');
      CONTINUE;
    END IF;
    before_change := spillway.wall_clock(time_zone, change - interval '1 microsecond');
    after_change := spillway.wall_clock(time_zone, change);
    IF every_hour AND (after_change < before_change OR reading < after_change) THEN
      reading := spillway.next_reading(minutes, hours, days, months, weekdays, either,
                                       after_change - interval '1 microsecond');
    ELSIF reading < after_change THEN
      IF after_change - before_change <= interval '3 hours 1 second' THEN
        RETURN change AT TIME ZONE 'UTC';
      END IF;
      reading := spillway.next_reading(minutes, hours, days, months, weekdays, either,
                                       after_change - interval '1 microsecond');
    END IF;
    present := change;
  END LOOP;
END $$;
COMMENT ON FUNCTION spillway.next_tick(text, text, timestamptz) IS
  'When a cron expression, in the local time of a time zone, comes next after a time.';

-- The name as PostgreSQL's list has it. An abbreviation is refused: it is an offset, without the
-- zone's daylight saving, even where a zone has the same name (CET).
CREATE FUNCTION spillway.full_time_zone(given text) RETURNS text
LANGUAGE plpgsql STABLE STRICT AS $$
DECLARE
  known text;
BEGIN
  IF upper(given) IN ('UTC', 'GMT') THEN
    RETURN upper(given);
  END IF;
  IF EXISTS (SELECT FROM pg_catalog.pg_timezone_abbrevs WHERE lower(abbrev) = lower(given)) THEN
    RAISE EXCEPTION 'time_zone "%" is an abbreviation, which knows no daylight saving time: write the '
      'full name of a time zone, one like Europe/Berlin, or UTC', given USING ERRCODE = '22023';
  END IF;
  SELECT name INTO known FROM pg_catalog.pg_timezone_names WHERE lower(name) = lower(given);
  IF known IS NULL THEN
    RAISE EXCEPTION 'time_zone "%" is not the full name of a time zone: write % (they are listed in '
      'pg_timezone_names)', given,
      coalesce((SELECT min(name) FROM pg_catalog.pg_timezone_names
                WHERE lower(name) LIKE '%/' || lower(replace(given, ' ', '\_'))
                  AND name NOT LIKE 'posix/%'),
               'one like Europe/Berlin, or UTC') USING ERRCODE = '22023';
  END IF;
  RETURN known;
END $$;

CREATE TABLE spillway.schedules (
  name          text PRIMARY KEY CONSTRAINT schedules_name_not_empty CHECK (name <> ''),
  cron          text NOT NULL,
  time_zone     text NOT NULL DEFAULT 'UTC',
  type          text NOT NULL CONSTRAINT schedules_type_not_empty CHECK (type <> ''),
  payload       jsonb NOT NULL DEFAULT '{}',
  stream        text CONSTRAINT schedules_stream_not_empty CHECK (stream <> ''),
  context       jsonb NOT NULL DEFAULT '{}'
                CONSTRAINT schedules_context_is_object CHECK (jsonb_typeof(context) = 'object'),
  priority      smallint NOT NULL DEFAULT 0,
  max_attempts  smallint CONSTRAINT schedules_max_attempts_positive CHECK (max_attempts > 0),
  enabled       boolean NOT NULL DEFAULT true,
  -- What becomes of ticks at which nobody was there: the default runs late rather than never.
  missed        text NOT NULL DEFAULT 'catch-up-one'
                CONSTRAINT schedules_missed CHECK (missed IN ('skip', 'catch-up-one')),
  next_at       timestamptz,  -- the next tick; null while not enabled
  last_at       timestamptz,  -- the last tick that made an event
  last_event_id bigint,
  last_error    text,         -- why the last tick made no event, or that at next_at makes none
  created_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX schedules_due ON spillway.schedules (next_at);
COMMENT ON TABLE spillway.schedules IS 'Each tick of an enabled schedule inserts one event.';

CREATE FUNCTION spillway.check_schedule() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
  computed timestamptz;
BEGIN
  IF NEW.missed NOT IN ('skip', 'catch-up-one') THEN
    RAISE EXCEPTION 'missed is "%": write skip or catch-up-one', NEW.missed USING ERRCODE = '22023';
  END IF;
  IF NEW.next_at IN ('infinity', '-infinity') THEN
    RAISE EXCEPTION 'next_at is "%": give a time, or set enabled to false', NEW.next_at
      USING ERRCODE = '22023';
  END IF;
  IF TG_OP = 'INSERT' OR NEW.time_zone IS DISTINCT FROM OLD.time_zone THEN
    NEW.time_zone := spillway.full_time_zone(NEW.time_zone);
  END IF;
  IF TG_OP = 'INSERT' OR (NEW.cron, NEW.time_zone) IS DISTINCT FROM (OLD.cron, OLD.time_zone)
     OR (NEW.enabled AND NEW.next_at IS NULL) THEN
    computed := spillway.next_tick(NEW.cron, NEW.time_zone, clock_timestamp());
    -- A time that is set by hand stays, whatever else is set with it.
    IF NEW.next_at IS NULL OR TG_OP = 'UPDATE' AND NEW.next_at IS NOT DISTINCT FROM OLD.next_at THEN
      NEW.next_at := computed;
    END IF;
  END IF;
  IF NOT NEW.enabled THEN
    NEW.next_at := NULL;  -- and so it begins anew, without a burst, once it is enabled again
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER schedules_check BEFORE INSERT OR UPDATE ON spillway.schedules
  FOR EACH ROW EXECUTE FUNCTION spillway.check_schedule();

-- Inserts the event of each schedule that is due at `present`, and returns when the next one is.
-- Whoever holds a schedule's row has its tick; everybody else passes on, and finds it moved.
--
-- A schedule whose event cannot be inserted keeps its next_at and says why in last_error: it is tried
-- again at the next call, and does not hold up the others.
CREATE FUNCTION spillway.run_schedules(present timestamptz DEFAULT clock_timestamp())
RETURNS timestamptz
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
  most CONSTANT int := 1000;
  due spillway.schedules;
  taken int := 0;
  moved int := 0;
  tick timestamptz;
  following timestamptz;
  found_at timestamptz;
  middle timestamptz;
  upper_end timestamptz;
  said jsonb;
  key text;
  new_id bigint;
  problem text;
BEGIN
  -- Those that failed come last, so that they cannot use up the number that one call takes.
  FOR due IN
    SELECT * FROM spillway.schedules WHERE next_at <= present
    ORDER BY last_error IS NOT NULL, next_at, name LIMIT most FOR UPDATE SKIP LOCKED
  LOOP
    taken := taken + 1;
    BEGIN
      tick := due.next_at;
      following := spillway.next_tick(due.cron, due.time_zone, tick);
      -- More than one tick has come: find the last of them, by halves.
      upper_end := present;
      WHILE following <= present LOOP
        tick := following;
        middle := tick + (upper_end - tick) / 2;
        found_at := spillway.next_tick(due.cron, due.time_zone, middle);
        IF found_at <= present THEN
          tick := found_at;
        ELSE
          upper_end := middle;
        END IF;
        following := spillway.next_tick(due.cron, due.time_zone, tick);
      END LOOP;

      new_id := NULL;
      problem := NULL;
      IF due.missed = 'catch-up-one' OR tick > present - interval '1 minute' THEN
        said := jsonb_build_object('schedule', due.name, 'tick', spillway.iso_time(tick));
        IF due.missed = 'catch-up-one' AND tick > due.next_at THEN
          said := said || jsonb_build_object('missed_since', spillway.iso_time(due.next_at));
        END IF;
        -- The lock is what makes it once; the key holds even if the table was put back to an
        -- earlier state.
        key := format('schedule:%s:%s', due.name, spillway.iso_time(tick));
        INSERT INTO spillway.events (type, payload, stream, context, priority, max_attempts,
                                     idempotency_key)
        VALUES (due.type, due.payload, due.stream, due.context || said, due.priority,
                due.max_attempts, key)
        ON CONFLICT (idempotency_key) DO NOTHING
        RETURNING id INTO new_id;
        IF new_id IS NULL THEN
          problem := format(
            CASE WHEN EXISTS (SELECT FROM spillway.events WHERE idempotency_key = key)
                 THEN 'tick %s made no event: there is one with idempotency_key "%s" already'
                 ELSE 'tick %s made no event: a trigger on spillway.events left it out' END,
            spillway.iso_time(tick), key);
        END IF;
      END IF;
      UPDATE spillway.schedules
      SET next_at = following,
          last_at = CASE WHEN new_id IS NULL THEN last_at ELSE tick END,
          last_event_id = coalesce(new_id, last_event_id),
          last_error = problem
      WHERE name = due.name;
      moved := moved + 1;
    EXCEPTION WHEN OTHERS THEN
      problem := format('%s (SQLSTATE %s)', SQLERRM, SQLSTATE);
      UPDATE spillway.schedules SET last_error = problem
      WHERE name = due.name AND last_error IS DISTINCT FROM problem;
      -- Somebody holds a lock. The others come first at the next call, instead of waiting each in
      -- turn at this one.
      EXIT WHEN SQLSTATE = '55P03';
    END;
  END LOOP;
  IF taken = most AND moved > 0 THEN
    RETURN present;  -- there may be more
  END IF;
  RETURN (SELECT min(next_at) FROM spillway.schedules WHERE next_at > present);
END $$;
REVOKE ALL ON FUNCTION spillway.run_schedules(timestamptz) FROM PUBLIC;

-- 2026-01-31T12:00:00Z, with as many digits of the second as there are.
CREATE FUNCTION spillway.iso_time(at timestamptz) RETURNS text
LANGUAGE sql STABLE
RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS')
  || rtrim(rtrim(to_char(at AT TIME ZONE 'UTC', '.US'), '0'), '.') || 'Z';
