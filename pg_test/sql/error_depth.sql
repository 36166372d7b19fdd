CREATE EXTENSION refold;

-- Wherever user code fails, the error arrives with all that it carries, and with refold's line in its context.
CREATE TYPE carried AS (code text, message text, detail text, hint text, schema_name text, table_name text, column_name text,
  constraint_name text, type_name text);
CREATE FUNCTION error_of(statement text, OUT error carried, OUT context text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS error.code = RETURNED_SQLSTATE, error.message = MESSAGE_TEXT, error.detail = PG_EXCEPTION_DETAIL,
    error.hint = PG_EXCEPTION_HINT, error.schema_name = SCHEMA_NAME, error.table_name = TABLE_NAME,
    error.column_name = COLUMN_NAME, error.constraint_name = CONSTRAINT_NAME, error.type_name = PG_DATATYPE_NAME,
    context = PG_EXCEPTION_CONTEXT;
END
$$;

-- Two ways to fail, three functions deep: raised with all there is, and a constraint of another table.
CREATE TABLE limited (n int CONSTRAINT at_most_nine CHECK (n < 10));
CREATE FUNCTION deepest(way text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF way = 'raised' THEN
    RAISE EXCEPTION 'the % failed', 'deepest' USING ERRCODE = 'ZX123', DETAIL = 'a detail', HINT = 'a hint',
      SCHEMA = 's', TABLE = 't', COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 'd';
  ELSIF way = 'constraint' THEN
    INSERT INTO limited VALUES (10);
  END IF;
END
$$;
CREATE FUNCTION deeper(way text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'SELECT deepest($1)' USING way;
  RETURN 1;
END
$$;
CREATE FUNCTION deep(place text) RETURNS int LANGUAGE sql AS $$
  SELECT deeper(CASE WHEN current_setting('test.place', true) = place THEN current_setting('test.way', true) END)
$$;

CREATE TABLE event_model (stream_id text PRIMARY KEY, n bigint);
CREATE FUNCTION on_event(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO event_model AS m SELECT event.stream_id, deep('handler')
    ON CONFLICT (stream_id) DO UPDATE SET n = m.n + 1;
END
$$;
CREATE TABLE batch_model (stream_id text PRIMARY KEY, n bigint);
CREATE FUNCTION on_batch(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO batch_model AS m SELECT e.stream_id, sum(deep('handler')) FROM unnest(events) AS e GROUP BY 1
    ON CONFLICT (stream_id) DO UPDATE SET n = m.n + excluded.n
$$;
CREATE TABLE fold_model (stream_id text PRIMARY KEY, n bigint);
CREATE FUNCTION on_fold(state fold_model, event refold.event) RETURNS fold_model LANGUAGE plpgsql AS $$
BEGIN
  RETURN ROW(event.stream_id, coalesce(state.n, 0) + deep('handler'))::fold_model;
END
$$;
CREATE TABLE keyed_model (stream_id text PRIMARY KEY, n bigint);
CREATE FUNCTION key_of(event refold.event) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  RETURN left(event.stream_id, deep('key'));
END
$$;
CREATE FUNCTION on_keyed(state keyed_model, event refold.event) RETURNS keyed_model LANGUAGE sql AS $$
  SELECT left(event.stream_id, 1), coalesce(state.n, 0) + deep('handler')
$$;
CREATE FUNCTION create_one(name text) RETURNS SETOF refold.rebuild_report LANGUAGE sql AS $$
  SELECT * FROM refold.create_projection(name,
    CASE name WHEN 'event' THEN 'on_event(refold.event)' WHEN 'batch' THEN 'on_batch(refold.event[])'
      WHEN 'fold' THEN 'on_fold(fold_model, refold.event)' ELSE 'on_keyed(keyed_model, refold.event)' END::regprocedure,
    ARRAY[name || '_model']::regclass[], ARRAY[name, 'all'],
    key => CASE name WHEN 'keyed' THEN 'key_of(refold.event)'::regprocedure END)
$$;
-- What a merge meets.
CREATE FUNCTION on_merge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM deep('merge');
  RETURN NULL;
END
$$;

-- One statement at one place, failing in both ways: what arrives is what `deeper` raises when it is called directly.
CREATE FUNCTION arrives(place text, statement text) RETURNS TABLE (way text, unchanged boolean, context text)
LANGUAGE plpgsql AS $$
DECLARE
  direct record;
  arrived record;
BEGIN
  PERFORM set_config('test.place', place, true);
  FOREACH way IN ARRAY '{raised,constraint}'::text[] LOOP
    PERFORM set_config('test.way', way, true);
    SELECT * INTO direct FROM error_of(format('SELECT deeper(%L)', way));
    SELECT * INTO arrived FROM error_of(statement);
    unchanged := direct.error = arrived.error AND direct.error IS NOT NULL
      -- The lines of its own functions, to the last, come first.
      AND starts_with(arrived.context, left(direct.context, position('PL/pgSQL function deeper' IN direct.context)));
    -- refold's own line, and nothing else of how it works.
    context := (SELECT string_agg(regexp_replace(line, 'position \d+', 'position N'), '; ')
      FROM regexp_split_to_table(arrived.context, '\n') AS line
      WHERE line LIKE 'projection %' OR line ~ 'refold\._|refold_copy|FROM refold\.event');
    RETURN NEXT;
  END LOOP;
  PERFORM set_config('test.place', '', true);
END
$$;

SELECT refold.append_event('s', 'all', '{}', event_id => '018f0000-0000-7000-8000-000000000001');
-- Creation.
SELECT name, arrives.* FROM unnest('{event,batch,fold,keyed}'::text[]) AS name,
  arrives('handler', format('SELECT create_one(%L)', name));
SELECT arrives.* FROM arrives('key', $$SELECT create_one('keyed')$$);
SELECT name, (create_one(name)).generation FROM unnest('{event,batch,fold,keyed}'::text[]) AS name;
-- An append, and one of a batch.
SELECT name, arrives.* FROM unnest('{event,batch,fold,keyed}'::text[]) AS name,
  arrives('handler', format('SELECT refold.append_event(''s'', %L, ''{}'')', name));
SELECT arrives.* FROM arrives('key', $$SELECT refold.append_event('s', 'keyed', '{}')$$);
SELECT name, arrives.* FROM unnest('{event,batch,fold,keyed}'::text[]) AS name, arrives('handler',
  format('SELECT refold.append_events(''s'', ''[{"type": "other", "data": 1}, {"type": "%1$s", "data": 1}, {"type": "%1$s", "data": 2}]'')', name));
SELECT arrives.* FROM arrives('key', $$SELECT refold.append_events('s', '[{"type": "other", "data": 1}, {"type": "keyed", "data": 1}]')$$);
-- A rebuild, and a verification.
SELECT name, arrives.* FROM unnest('{event,batch,fold,keyed}'::text[]) AS name,
  arrives('handler', format('SELECT refold.rebuild_projection(%L)', name));
SELECT arrives.* FROM arrives('key', $$SELECT refold.rebuild_projection('keyed')$$);
SELECT name, arrives.* FROM unnest('{event,batch,fold,keyed}'::text[]) AS name,
  arrives('handler', format('SELECT refold.verify_projection(%L)', name));
SELECT arrives.* FROM arrives('key', $$SELECT refold.verify_projection('keyed')$$);
-- The merge, in a trigger of the live table.
CREATE TRIGGER on_merge AFTER UPDATE ON fold_model FOR EACH ROW EXECUTE FUNCTION on_merge();
ALTER TABLE fold_model ENABLE ALWAYS TRIGGER on_merge;
UPDATE fold_model SET n = -1;
SELECT arrives.* FROM arrives('merge', $$SELECT refold.rebuild_projection('fold')$$);

-- A statement of refold's own is in no context, whatever the names in it.
CREATE TABLE two_lines (stream_id text PRIMARY KEY);
CREATE FUNCTION on_two_lines(events refold.event[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM deepest(current_setting('test.way', true));
END
$$;
SELECT generation FROM refold.create_projection('two lines', 'on_two_lines(refold.event[])', '{two_lines}', ARRAY[E'two\nlines']);
SELECT refold.append_event('u', E'two\nlines', '{}');
SET test.way = 'raised';
SELECT refold.rebuild_projection('two lines');
RESET test.way;

-- Caught around an append, the transaction goes on, with its own identity and settings; the failed one has left nothing.
SET test.way = 'constraint';
BEGIN;
DO $$
BEGIN
  PERFORM refold.append_event('t', 'all', '{}');
  BEGIN
    PERFORM set_config('test.place', 'handler', true);
    PERFORM refold.append_event('t', 'all', '{}');
  EXCEPTION WHEN check_violation THEN
    RAISE NOTICE 'caught: % as % on %', SQLERRM, current_user = session_user, current_setting('search_path');
  END;
  PERFORM refold.append_event('t', 'all', '{}');
END
$$;
COMMIT;
RESET test.way;
SELECT stream_id, stream_version, event_type FROM refold.read_all();
SELECT p.name, v.* FROM refold.projections AS p, refold.verify_projection(p.name) AS v;
SELECT n FROM event_model UNION ALL SELECT n FROM batch_model UNION ALL SELECT n FROM keyed_model;

-- A batch keeps one state of its row at a time, however large that is.
CREATE TABLE long (stream_id text PRIMARY KEY, words text, memory bigint);
CREATE FUNCTION on_long(state long, event refold.event) RETURNS long LANGUAGE plpgsql AS $$
BEGIN
  state.stream_id := event.stream_id;
  state.words := concat(state.words, event.data #>> '{}');
  IF event.stream_version = 1000 THEN
    state.memory := (SELECT sum(total_bytes) FROM pg_backend_memory_contexts);
  END IF;
  RETURN state;
END
$$;
SELECT generation FROM refold.create_projection('long', 'on_long(long, refold.event)', event_types => '{long}');
SELECT refold.append_events('long', (SELECT jsonb_agg(jsonb_build_object('type', 'long', 'data', repeat('x', 200)))
  FROM generate_series(1, 1000)));
SELECT length(words), memory < 50000000 AS little FROM long;
