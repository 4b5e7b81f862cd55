-- Row changes of any table become events. A watch is a set of statement-level triggers on the table; its
-- settings are the triggers' argument, so they follow a rename, survive pg_dump and go with the table.

-- What watch() wrote down: {"type", "ops", "columns"?, "changed"?, "changed_to"?, "stream"?, "condition"?}.
-- Null for anything else, so that a trigger made by hand does not break the view.
CREATE FUNCTION spillway.watch_settings(trigger_arguments bytea) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  settings jsonb;
BEGIN
  settings := convert_from(substring(trigger_arguments FROM 1 FOR octet_length(trigger_arguments) - 1),
                           getdatabaseencoding());
  RETURN CASE WHEN jsonb_typeof(settings -> 'type') = 'string' AND jsonb_typeof(settings -> 'ops') = 'array'
              THEN settings END;
EXCEPTION WHEN data_exception THEN
  RETURN NULL;
END $$;

-- The columns that a stream's template names: {item_id} in 'item:{item_id}'.
CREATE FUNCTION spillway.template_columns(template text) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
  SELECT ARRAY(SELECT part[1] FROM regexp_matches(template, '\{([^{}]*)\}', 'g') AS part)
$$;

-- How values of a type become jsonb. 'plainly'; 'perhaps', because some of them may fail (json may hold what
-- jsonb cannot); 'never', because to_jsonb() calls a type's cast to json, row_change() runs with the rights
-- of our owner, and whoever wrote this cast has no such rights.
CREATE FUNCTION spillway.becomes_jsonb(type oid) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  t record;
BEGIN
  IF type IN ('json'::regtype, 'json[]'::regtype) THEN
    RETURN 'perhaps';
  ELSIF type < 16384 THEN  -- PostgreSQL's own
    RETURN 'plainly';
  END IF;
  SELECT typtype, typrelid, typbasetype, CASE typcategory WHEN 'A' THEN typelem ELSE 0 END AS element
  INTO t FROM pg_type WHERE oid = type;
  IF t.typtype = 'd' THEN
    RETURN spillway.becomes_jsonb(t.typbasetype);
  ELSIF t.element <> 0 THEN
    RETURN spillway.becomes_jsonb(t.element);
  ELSIF t.typtype = 'c' THEN
    RETURN (SELECT CASE WHEN 'never' = ANY (parts) THEN 'never' WHEN 'perhaps' = ANY (parts) THEN 'perhaps'
                        ELSE 'plainly' END
            FROM (SELECT array_agg(spillway.becomes_jsonb(atttypid)) AS parts FROM pg_attribute
                  WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped) fields);
  END IF;
  RETURN coalesce((SELECT CASE WHEN pg_has_role(p.proowner, current_user, 'MEMBER') THEN 'perhaps'
                               ELSE 'never' END
                   FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc
                   WHERE c.castsource = type AND c.casttarget = 'json'::regtype), 'plainly');
END $$;
REVOKE ALL ON FUNCTION spillway.becomes_jsonb(oid) FROM PUBLIC;

-- As to_jsonb(), but what jsonb cannot hold becomes a string of its text.
CREATE FUNCTION spillway.jsonb_or_text(value anyelement) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN to_jsonb(value);
EXCEPTION WHEN OTHERS THEN
  RETURN to_jsonb(format('%s', value));
END $$;
REVOKE ALL ON FUNCTION spillway.jsonb_or_text(anyelement) FROM PUBLIC;

CREATE FUNCTION spillway.change_payload("table" text, op text, before jsonb, after jsonb) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
RETURN pg_catalog.jsonb_build_object('table', "table", 'op', op, 'before', before, 'after', after);

-- Whether a change is one that the watch asks for. `hidden`: columns that are in before and after but not
-- in the payload. A condition is a predicate ($.after.n > 1) or a filter ($ ? (@.after.n > 1)).
CREATE FUNCTION spillway.change_is_wanted(
  settings jsonb, op text, before jsonb, after jsonb, hidden text[], condition jsonpath, payload jsonb
) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN settings -> 'ops' ? op
  AND CASE WHEN op <> 'update' THEN true
           WHEN NOT settings ? 'changed' THEN before - hidden IS DISTINCT FROM after - hidden
           ELSE before -> (settings ->> 'changed') IS DISTINCT FROM after -> (settings ->> 'changed')
             AND (NOT settings ? 'changed_to' OR after -> (settings ->> 'changed') = settings -> 'changed_to') END
  AND CASE WHEN condition IS NULL THEN true
           ELSE coalesce(pg_catalog.jsonb_path_query_first(payload, condition, '{}', true)
                           NOT IN ('false', 'null'), false) END;

-- Null where a column that the template names is null or no longer there.
CREATE FUNCTION spillway.change_stream(template_format text, template_columns text[], image jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  parts text[] := ARRAY(SELECT image ->> name FROM unnest(template_columns) AS name);
BEGIN
  RETURN CASE WHEN array_position(parts, NULL) IS NULL THEN nullif(format(template_format, VARIADIC parts), '') END;
END $$;

-- The trigger function. Definer rights, so that whoever changes the table needs no right on spillway; it is
-- the table's owner who must be allowed to insert events. UTC and the like: an event looks the same
-- whichever session made it.
CREATE FUNCTION spillway.row_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET bytea_output = 'hex' SET extra_float_digits = 1
SET intervalstyle = 'postgres' AS $$
DECLARE
  settings jsonb := TG_ARGV[0];
  op text := lower(TG_OP);
  table_name text := CASE TG_TABLE_SCHEMA WHEN 'public' THEN '' ELSE TG_TABLE_SCHEMA || '.' END || TG_TABLE_NAME;
  template text := settings ->> 'stream';
  template_format text := regexp_replace(replace(template, '%', '%%'), '\{[^{}]*\}', '%s', 'g');
  template_columns text[] := spillway.template_columns(template);
  condition jsonpath := settings ->> 'condition';
  t record;
  row_count int;           -- 0, 1, or 2 for more
  unpaired boolean := false;
  selected text := 'r.*';  -- what travels, as a list of SQL expressions
  listed text[];
  hidden text[];           -- selected, but not for the payload
  before jsonb;
  after jsonb;
  payload jsonb;
  key text;
  changes text;            -- a query for op, before and after of each
BEGIN
  -- A name that no transition table bears would be looked up among the temporary tables of the session.
  SELECT tg.tgoldtable, tg.tgnewtable, c.relkind, c.relowner INTO t
  FROM pg_trigger tg JOIN pg_class c ON c.oid = tg.tgrelid WHERE tg.tgrelid = TG_RELID AND tg.tgname = TG_NAME;
  IF TG_LEVEL <> 'STATEMENT' OR TG_WHEN <> 'AFTER'
     OR (op IN ('update', 'delete') AND t.tgoldtable IS DISTINCT FROM 'old_rows')
     OR (op IN ('update', 'insert') AND t.tgnewtable IS DISTINCT FROM 'new_rows') THEN
    RAISE EXCEPTION 'trigger "%" of table "%" is none that spillway.watch() made', TG_NAME, table_name
      USING ERRCODE = '0A000', HINT = 'Drop it and call spillway.watch().';
  END IF;
  IF NOT has_table_privilege(t.relowner, 'spillway.events', 'INSERT') THEN
    RAISE EXCEPTION 'table "%" is watched, but its owner may not insert into spillway.events', table_name
      USING ERRCODE = '42501',
            HINT = format('GRANT INSERT ON spillway.events TO %I, or spillway.unwatch().', pg_get_userbyid(t.relowner));
  END IF;

  IF op = 'truncate' THEN
    row_count := 1;
  ELSIF op = 'delete' THEN
    row_count := (SELECT count(*) FROM (SELECT FROM old_rows LIMIT 2) AS two);
  ELSE
    row_count := (SELECT count(*) FROM (SELECT FROM new_rows LIMIT 2) AS two);
  END IF;
  -- The two transition tables of an UPDATE hold the versions of a row at the same place: the executor adds
  -- to both at once. But a row on its way to another partition leaves no new version when a BEFORE INSERT
  -- trigger there swallows it.
  IF op = 'update' AND t.relkind = 'p' THEN
    unpaired := (SELECT count(*) FROM old_rows) <> (SELECT count(*) FROM new_rows);
  END IF;
  IF row_count = 0 AND NOT unpaired THEN
    RETURN NULL;
  END IF;

  -- A column that is not listed is not even read: it may be large.
  IF settings ? 'columns' OR EXISTS (
       SELECT FROM pg_attribute a WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped
       AND (a.atttypid >= 16384 OR a.atttypid IN ('json'::regtype, 'json[]'::regtype))
       AND spillway.becomes_jsonb(a.atttypid) <> 'plainly') THEN
    listed := CASE WHEN settings ? 'columns' THEN ARRAY(SELECT jsonb_array_elements_text(settings -> 'columns')) END;
    SELECT string_agg(CASE spillway.becomes_jsonb(a.atttypid)
                        WHEN 'plainly' THEN format('r.%I', a.attname)
                        WHEN 'perhaps' THEN format('spillway.jsonb_or_text(r.%1$I) AS %1$I', a.attname)
                        ELSE format('CASE num_nulls(r.%1$I) WHEN 0 THEN format(''%%s'', r.%1$I) END AS %1$I', a.attname)
                      END, ', ' ORDER BY a.attnum),
           array_agg(a.attname::text) FILTER (WHERE a.attname <> ALL (listed))
    INTO selected, hidden
    FROM pg_attribute a WHERE a.attrelid = TG_RELID AND a.attnum > 0 AND NOT a.attisdropped
    AND (listed IS NULL OR a.attname = ANY (listed || template_columns || (settings ->> 'changed')));
  END IF;
  hidden := coalesce(hidden, '{}');

  -- One row: small steps, which cost less than planning the whole.
  IF row_count = 1 AND NOT unpaired THEN
    IF op IN ('update', 'delete') AND selected = 'r.*' THEN
      before := (SELECT to_jsonb(r.*) FROM old_rows r);
    ELSIF op IN ('update', 'delete') THEN
      EXECUTE format('SELECT to_jsonb(i.*) FROM old_rows r, LATERAL (SELECT %s) i', selected) INTO before;
    END IF;
    IF op IN ('update', 'insert') AND selected = 'r.*' THEN
      after := (SELECT to_jsonb(r.*) FROM new_rows r);
    ELSIF op IN ('update', 'insert') THEN
      EXECUTE format('SELECT to_jsonb(i.*) FROM new_rows r, LATERAL (SELECT %s) i', selected) INTO after;
    END IF;
    payload := spillway.change_payload(table_name, op, before - hidden, after - hidden);
    IF spillway.change_is_wanted(settings, op, before, after, hidden, condition, payload) THEN
      INSERT INTO spillway.events (type, payload, stream)
      VALUES (settings ->> 'type', payload,
              CASE WHEN template IS NOT NULL
                   THEN spillway.change_stream(template_format, template_columns, coalesce(after, before)) END);
    END IF;
    RETURN NULL;
  END IF;

  IF op = 'insert' THEN
    changes := format('SELECT $1 AS op, NULL::jsonb AS before, to_jsonb(i.*) AS after'
                      ' FROM new_rows r, LATERAL (SELECT %s) i OFFSET 0', selected);
  ELSIF op = 'delete' THEN
    changes := format('SELECT $1 AS op, to_jsonb(i.*) AS before, NULL::jsonb AS after'
                      ' FROM old_rows r, LATERAL (SELECT %s) i OFFSET 0', selected);
  ELSIF NOT unpaired THEN
    changes := format('SELECT $1 AS op, before, after'
                      ' FROM (SELECT row_number() OVER () AS n, to_jsonb(i.*) AS before'
                      '       FROM old_rows r, LATERAL (SELECT %1$s) i) o'
                      ' JOIN (SELECT row_number() OVER () AS n, to_jsonb(i.*) AS after'
                      '       FROM new_rows r, LATERAL (SELECT %1$s) i) w USING (n) ORDER BY n', selected);
  ELSE
    -- What place does not tell, the primary key does. Rows without a partner went or came.
    SELECT 'ARRAY[' || string_agg(format('format(''%%s'', r.%I)', a.attname), ', ') || ']' INTO key
    FROM pg_index x JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = ANY (x.indkey)
    WHERE x.indrelid = TG_RELID AND x.indisprimary;
    changes := format('SELECT CASE WHEN w.n IS NULL THEN ''delete'' WHEN o.n IS NULL THEN ''insert'' ELSE $1 END'
                      '       AS op, before, after'
                      ' FROM (SELECT row_number() OVER () AS n, %2$s AS key, to_jsonb(i.*) AS before'
                      '       FROM old_rows r, LATERAL (SELECT %1$s) i) o'
                      ' FULL JOIN (SELECT row_number() OVER () AS n, %2$s AS key, to_jsonb(i.*) AS after'
                      '       FROM new_rows r, LATERAL (SELECT %1$s) i) w ON o.key = w.key'
                      ' ORDER BY coalesce(w.n, o.n)', selected, coalesce(key, 'NULL::text[]'));
  END IF;
  EXECUTE format('INSERT INTO spillway.events (type, payload, stream)'
                 ' SELECT $2 ->> ''type'', spillway.change_payload($3, op, before - $4, after - $4),'
                 ' CASE WHEN $6 IS NOT NULL THEN spillway.change_stream($6, $7, coalesce(after, before)) END'
                 ' FROM (%s) c WHERE spillway.change_is_wanted($2, op, before, after, $4, $5,'
                 ' spillway.change_payload($3, op, before - $4, after - $4))', changes)
  USING op, settings, table_name, hidden, condition, template_format, template_columns;
  RETURN NULL;
END $$;

CREATE VIEW spillway.watches AS
SELECT w.tgrelid::regclass AS "table",
       w.settings ->> 'type' AS event_type,
       ARRAY(SELECT jsonb_array_elements_text(w.settings -> 'ops')) AS ops,
       CASE WHEN w.settings ? 'columns'
            THEN ARRAY(SELECT jsonb_array_elements_text(w.settings -> 'columns')) END AS columns,
       w.settings ->> 'changed' AS changed,
       w.settings -> 'changed_to' AS changed_to,
       w.settings ->> 'stream' AS stream,
       w.settings ->> 'condition' AS condition,
       w.enabled,
       -- Named by the watch, and no longer there: dropped or renamed.
       ARRAY(SELECT DISTINCT name FROM (
               SELECT jsonb_array_elements_text(w.settings -> 'columns') UNION ALL
               SELECT unnest(spillway.template_columns(w.settings ->> 'stream')) UNION ALL
               SELECT w.settings ->> 'changed') AS named (name)
             WHERE name IS NOT NULL AND NOT EXISTS (
               SELECT FROM pg_attribute a
               WHERE a.attrelid = w.tgrelid AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped)
             ORDER BY name) AS missing_columns
FROM (SELECT tgrelid, spillway.watch_settings(tgargs) AS settings, bool_and(tgenabled <> 'D') AS enabled
      FROM pg_trigger WHERE tgfoid = 'spillway.row_change()'::regprocedure GROUP BY 1, 2) w
WHERE w.settings IS NOT NULL;
COMMENT ON VIEW spillway.watches IS 'What spillway.watch() was asked for, one row per table and event type.';

-- Rights of the caller: CREATE TRIGGER checks them. The values of SET are row_change()'s, so that
-- changed_to is compared with what it writes.
CREATE FUNCTION spillway.watch(
  "table" regclass, event_type text DEFAULT 'RowChanged', columns text[] DEFAULT NULL, ops text[] DEFAULT NULL,
  changed text DEFAULT NULL, changed_to anycompatible DEFAULT NULL::text, stream text DEFAULT NULL,
  condition jsonpath DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET bytea_output = 'hex' SET extra_float_digits = 1
SET intervalstyle = 'postgres' AS $$
#variable_conflict use_column
DECLARE
  every_op constant text[] := '{insert,update,delete,truncate}';
  wanted_ops text[];
  wanted_type text := coalesce(event_type, 'RowChanged');
  settings jsonb;
  value jsonb;
  names text[] := '{}';
  there text[];
  t record;
  o text;
  name text;
BEGIN
  SELECT c.oid, c.relkind, c.relowner, c.relpersistence, n.nspname,
         c.relispartition OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid) AS is_child
  INTO t FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = watch."table";
  IF NOT FOUND THEN
    RAISE EXCEPTION 'spillway.watch: there is no table %', coalesce(watch."table"::oid::text, 'null')
      USING ERRCODE = '42P01', HINT = 'Name one, e.g. spillway.watch(''public.items'').';
  ELSIF t.relkind NOT IN ('r', 'p') THEN
    RAISE EXCEPTION 'spillway.watch: % is %, not a table', watch."table",
      CASE t.relkind WHEN 'v' THEN 'a view' WHEN 'm' THEN 'a materialized view' WHEN 'f' THEN 'a foreign table'
                     WHEN 'S' THEN 'a sequence' WHEN 'c' THEN 'a type' ELSE 'an index' END
      USING ERRCODE = '42809', HINT = 'Watch the tables that its rows come from, where they live.';
  ELSIF t.nspname = 'spillway' THEN
    RAISE EXCEPTION 'spillway.watch: % is spillway''s own; its events would make events without end', watch."table"
      USING ERRCODE = '42809';
  ELSIF t.nspname IN ('pg_catalog', 'information_schema', 'pg_toast') THEN
    RAISE EXCEPTION 'spillway.watch: % is PostgreSQL''s own', watch."table" USING ERRCODE = '42809';
  ELSIF t.relpersistence = 't' THEN
    RAISE EXCEPTION 'spillway.watch: % is a temporary table', watch."table" USING ERRCODE = '42809';
  ELSIF NOT pg_has_role(t.relowner, 'USAGE') THEN
    RAISE EXCEPTION 'spillway.watch: you are not the owner of table %', watch."table" USING ERRCODE = '42501';
  ELSIF NOT has_table_privilege(t.relowner, 'spillway.events', 'INSERT') THEN
    RAISE EXCEPTION 'spillway.watch: the owner of table % may not insert into spillway.events', watch."table"
      USING ERRCODE = '42501',
            HINT = format('GRANT INSERT ON spillway.events TO %I', pg_get_userbyid(t.relowner));
  ELSIF wanted_type = '' THEN
    RAISE EXCEPTION 'spillway.watch: event_type is empty' USING ERRCODE = '22023';
  END IF;

  -- Without ops: everything; with "changed", which speaks of updates, updates.
  wanted_ops := ARRAY(SELECT lower(x) FROM unnest(watch.ops) AS x);
  IF watch.ops IS NULL THEN
    wanted_ops := CASE WHEN watch.changed IS NULL THEN every_op ELSE '{update}' END;
  ELSIF wanted_ops = '{}' OR NOT wanted_ops <@ every_op THEN
    RAISE EXCEPTION 'spillway.watch: ops is %; it takes insert, update, delete and truncate', watch.ops
      USING ERRCODE = '22023', HINT = 'E.g. ops => ''{insert,update}''.';
  ELSE
    wanted_ops := ARRAY(SELECT x FROM unnest(every_op) WITH ORDINALITY AS u (x, n)
                        WHERE x = ANY (wanted_ops) ORDER BY n);
  END IF;
  IF watch.columns = '{}' THEN
    RAISE EXCEPTION 'spillway.watch: columns is empty' USING ERRCODE = '22023',
      HINT = 'Leave it out for all columns.';
  ELSIF watch.changed IS NULL AND num_nulls(watch.changed_to) = 0 THEN
    RAISE EXCEPTION 'spillway.watch: changed_to needs changed' USING ERRCODE = '22023',
      HINT = 'E.g. changed => ''status'', changed_to => ''paid''.';
  ELSIF watch.changed IS NOT NULL AND 'update' <> ALL (wanted_ops) THEN
    RAISE EXCEPTION 'spillway.watch: changed is about updates, and ops is %', watch.ops USING ERRCODE = '22023';
  ELSIF regexp_replace(watch.stream, '\{[^{}]*\}', '', 'g') ~ '[{}]' OR watch.stream = '' THEN
    RAISE EXCEPTION 'spillway.watch: stream is "%"', watch.stream USING ERRCODE = '22023',
      HINT = 'Write column names in braces, e.g. stream => ''item:{item_id}''.';
  END IF;
  there := ARRAY(SELECT attname FROM pg_attribute
                 WHERE attrelid = t.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum);
  FOREACH name IN ARRAY watch.columns || watch.changed || spillway.template_columns(watch.stream) LOOP
    CONTINUE WHEN name IS NULL OR name = ANY (there);
    RAISE EXCEPTION 'spillway.watch: table % has no column "%"; it has %', watch."table", name,
      array_to_string(there, ', ') USING ERRCODE = '42703';
  END LOOP;

  settings := jsonb_strip_nulls(jsonb_build_object(
    'type', wanted_type, 'ops', wanted_ops, 'columns', watch.columns, 'changed', watch.changed,
    'stream', watch.stream, 'condition', watch.condition::text));
  IF num_nulls(watch.changed_to) = 0 THEN
    -- A text is JSON if it can be: '5', 'null', '"paid"'; else itself: 'paid'.
    value := to_jsonb(watch.changed_to);
    IF pg_typeof(watch.changed_to) = 'text'::regtype THEN
      BEGIN
        value := watch.changed_to::text::jsonb;
      EXCEPTION WHEN data_exception THEN NULL;
      END;
    END IF;
    -- As the column itself would show it: "2026-01-01" becomes "2026-01-01T00:00:00+00:00".
    SELECT format_type(atttypid, atttypmod) INTO o FROM pg_attribute WHERE attrelid = t.oid AND attname = watch.changed;
    BEGIN
      EXECUTE format('SELECT to_jsonb(v) FROM jsonb_to_record(jsonb_build_object(''v'', $1)) AS x (v %s)', o)
      INTO value USING value;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN
      RAISE EXCEPTION 'spillway.watch: changed_to is %, which column "%" of type % cannot hold: %',
        watch.changed_to, watch.changed, o, SQLERRM USING ERRCODE = '22023';
    END;
    settings := settings || jsonb_build_object('changed_to', coalesce(value, 'null'));
  END IF;

  -- What is there already is left alone: watching again in every migration takes no lock.
  FOREACH o IN ARRAY wanted_ops LOOP
    name := format('spillway_%s_%s', o, wanted_type);
    IF octet_length(name) > 63 THEN
      name := format('spillway_%s_%s', o, md5(wanted_type));
    END IF;
    names := names || name;
    CONTINUE WHEN EXISTS (SELECT FROM pg_trigger WHERE tgrelid = t.oid AND tgname = name AND tgenabled <> 'D'
                          AND tgfoid = 'spillway.row_change()'::regprocedure
                          AND spillway.watch_settings(tgargs) = settings);
    EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT'
                   ' EXECUTE FUNCTION spillway.row_change(%L)', name, o, watch."table",
                   CASE o WHEN 'insert' THEN 'REFERENCING NEW TABLE AS new_rows'
                          WHEN 'delete' THEN 'REFERENCING OLD TABLE AS old_rows'
                          WHEN 'update' THEN 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows'
                          ELSE '' END, settings);
  END LOOP;
  FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = t.oid AND tgname <> ALL (names)
              AND tgfoid = 'spillway.row_change()'::regprocedure
              AND spillway.watch_settings(tgargs) ->> 'type' = wanted_type LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', name, watch."table");
  END LOOP;
  IF t.is_child THEN
    RAISE NOTICE 'spillway.watch: % sees the changes that name it, not those made through its parent', watch."table";
  END IF;
END $$;
COMMENT ON FUNCTION spillway.watch(regclass, text, text[], text[], text, anycompatible, text, jsonpath) IS
  'Row changes of a table become events of a type; the same table and type again: the settings are replaced.';

CREATE FUNCTION spillway.unwatch("table" regclass, event_type text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found_one boolean := false;
  name text;
BEGIN
  FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = unwatch."table"
              AND tgfoid = 'spillway.row_change()'::regprocedure
              AND (unwatch.event_type IS NULL OR spillway.watch_settings(tgargs) ->> 'type' = unwatch.event_type) LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', name, unwatch."table");
    found_one := true;
  END LOOP;
  RETURN found_one;
END $$;
COMMENT ON FUNCTION spillway.unwatch(regclass, text) IS
  'Ends the watches of a table, or the one of an event type; whether there were any.';
