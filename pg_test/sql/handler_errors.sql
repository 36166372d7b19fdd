CREATE EXTENSION refold;
CREATE EXTENSION plpython3u;

-- Runs a statement and prints all that an error carries.
CREATE PROCEDURE print_error(statement text) LANGUAGE plpgsql AS $$
DECLARE
  code text; message text; detail text; hint text; con text; col text; typ text; tab text; sch text; context text;
BEGIN
  EXECUTE statement;
  RAISE NOTICE 'no error';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
    con = CONSTRAINT_NAME, col = COLUMN_NAME, typ = PG_DATATYPE_NAME, tab = TABLE_NAME, sch = SCHEMA_NAME,
    context = PG_EXCEPTION_CONTEXT;
  RAISE NOTICE E'% %\ndetail: %\nhint: %\nschema %, table %, column %, constraint %, type %\n%', code, message, detail, hint,
    sch, tab, col, con, typ, left(context, position('SQL statement "SELECT refold.' IN context) - 1);
END
$$;

-- A handler that raises whatever it is told to.
CREATE TABLE model (id text PRIMARY KEY, n int CONSTRAINT small CHECK (n < 10), must text NOT NULL DEFAULT 'x',
  share numeric(3,1), other text REFERENCES model);
CREATE DOMAIN even AS int CONSTRAINT is_even CHECK (VALUE % 2 = 0);
CREATE FUNCTION nested(data jsonb) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  CASE data ->> 'fail'
    WHEN 'raise' THEN
      RAISE EXCEPTION 'the % failed', 'handler' USING ERRCODE = 'ZX123', DETAIL = 'a detail', HINT = 'a hint', SCHEMA = 's',
        TABLE = 't', COLUMN = 'c', CONSTRAINT = 'k', DATATYPE = 'd';
    WHEN 'domain' THEN
      RETURN 3::even;
    WHEN 'assert' THEN
      ASSERT false, 'asserted';
    WHEN 'syntax' THEN
      EXECUTE 'SELEKT 1';
    ELSE
      RETURN (data ->> 'n')::int;
  END CASE;
END
$$;
CREATE FUNCTION on_model(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO model AS m (id, n, share, other) VALUES (event.stream_id, nested(event.data), (event.data ->> 'share')::numeric,
    event.data ->> 'other') ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n;
  IF event.data ? 'must' THEN
    UPDATE model SET must = NULL WHERE id = event.stream_id;
  END IF;
END
$$;
SELECT generation FROM refold.create_projection('model', 'on_model(refold.event)', '{model}', '{set}');
SELECT refold.append_event('a', 'set', '{"n": 1}');
CALL print_error($$SELECT refold.append_event('a', 'set', '{"fail": "raise"}')$$);
CALL print_error($$SELECT refold.append_event('a', 'set', '{"fail": "domain"}')$$);
SELECT refold.append_event('a', 'set', '{"fail": "assert"}');
CALL print_error($$SELECT refold.append_event('a', 'set', '{"fail": "syntax"}')$$);
CALL print_error($$SELECT refold.append_event('a', 'set', '{"n": 10}')$$);
CALL print_error($$SELECT refold.append_event('a', 'set', '{"n": 1, "must": null}')$$);
CALL print_error($$SELECT refold.append_event('b', 'set', '{"n": 1, "other": "nobody"}')$$);
CALL print_error($$SELECT refold.append_event('a', 'set', '{"n": 1, "share": 1000}')$$);
CALL print_error($$SELECT refold.append_event('a', 'set', '{"n": "x"}')$$);
-- As psql shows it, from a batch: which event it was.
SELECT refold.append_events('b', '[{"type": "set", "data": {"n": 1}}, {"type": "other", "data": {}},
  {"type": "set", "data": {"fail": "raise"}}, {"type": "set", "data": {"n": 2}}]');
-- Nothing of all that is in the log or the model.
SELECT stream_id, stream_version, event_type, data FROM refold.read_all();
SELECT * FROM model;
SELECT refold.append_event('a', 'set', '{"n": 2}');

-- SQL and PL/Python, a key function, a batch.
CREATE TABLE ratio (id text PRIMARY KEY, ratio int);
CREATE FUNCTION key_of(event refold.event) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF event.data ? 'nokey' THEN
    RAISE EXCEPTION 'no key' USING ERRCODE = 'ZX124';
  END IF;
  RETURN event.stream_id;
END
$$;
CREATE FUNCTION fold_ratio(state ratio, event refold.event) RETURNS ratio LANGUAGE sql AS $$
  SELECT event.stream_id, 100 / (event.data ->> 'n')::int
$$;
SELECT generation FROM refold.create_projection('ratio', 'fold_ratio(ratio, refold.event)', event_types => '{divided}',
  key => 'key_of(refold.event)');
CALL print_error($$SELECT refold.append_event('a', 'divided', '{"n": 0}')$$);
CREATE TABLE python (id text PRIMARY KEY);
CREATE FUNCTION on_python(event refold.event) RETURNS void LANGUAGE plpython3u AS $$
import json
if "error" in json.loads(event["data"]):
    plpy.error("from Python", detail="d", hint="h", sqlstate="ZX125", table_name="t")
plpy.execute("INSERT INTO python VALUES ({})".format(json.loads(event["data"])["sql"]))
$$;
SELECT generation FROM refold.create_projection('python', 'on_python(refold.event)', '{python}', '{python}');
\set SHOW_CONTEXT never
SELECT refold.append_event('a', 'python', '{"error": 1}');
SELECT refold.append_event('a', 'python', '{"sql": "1/0"}');
SELECT refold.append_event('a', 'python', '{"sql": "NULL"}');
\set SHOW_CONTEXT errors
SELECT refold.append_event('a', 'python', '{"sql": "''fine''"}');
SELECT * FROM python;

-- Caught in a block, the session and the transaction go on.
BEGIN;
SELECT refold.append_event('c', 'set', '{"n": 3}');
DO $$
BEGIN
  PERFORM refold.append_event('c', 'set', '{"n": 4}');
  PERFORM refold.append_event('c', 'set', '{"n": 10}');
EXCEPTION WHEN check_violation THEN
  PERFORM refold.append_event('c', 'set', '{"n": 5}');
END
$$;
SAVEPOINT s;
SELECT refold.append_event('c', 'set', '{"fail": "raise"}');
ROLLBACK TO s;
SELECT refold.append_event('c', 'set', '{"n": 6}');
COMMIT;
SELECT stream_version, data FROM refold.read_stream('c');
SELECT * FROM model ORDER BY id;
SELECT current_user, current_setting('search_path') AS search_path;
SELECT * FROM refold.verify_projection('model');

-- The same in a rebuild: the model stays as it was.
CREATE FUNCTION on_model_failing(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF event.data ->> 'n' = '5' THEN
    PERFORM nested('{"fail": "raise"}');
  END IF;
  INSERT INTO model (id, n) VALUES (event.stream_id, 0) ON CONFLICT DO NOTHING;
END
$$;
CALL print_error($$SELECT refold.rebuild_projection('model', 'on_model_failing(refold.event)')$$);
CREATE FUNCTION fold_ratio_failing(state ratio, event refold.event) RETURNS ratio LANGUAGE sql AS $$
  SELECT event.stream_id, 1 / (length(event.stream_id) - 1)
$$;
SELECT refold.append_event('a', 'divided', '{"n": 5}');
CALL print_error($$SELECT refold.rebuild_projection('ratio', 'fold_ratio_failing(ratio, refold.event)')$$);
SELECT * FROM model ORDER BY id;
SELECT name, generation, state FROM refold.projections;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'refold_copy%';
