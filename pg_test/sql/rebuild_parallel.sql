CREATE EXTENSION refold;
SET client_min_messages = warning;

-- A log that its statistics make out to be a large one: workers are worthwhile.
SELECT count(refold.append_event('s-' || n % 500, CASE WHEN n % 1000 = 7 THEN 'closed' ELSE 'counted' END, '{}'))
  FROM generate_series(1, 2000) AS n;
ANALYZE refold.event;
UPDATE pg_class SET reltuples = 1000000 WHERE oid = 'refold.event'::regclass;

-- What a fold has seen, in order, and whose process has folded it last; a closed stream has no row.
CREATE TABLE seen (stream_id text PRIMARY KEY, positions text NOT NULL, pid int NOT NULL);
CREATE FUNCTION fold_seen(state seen, event refold.event) RETURNS seen LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  IF event.event_type = 'closed' THEN
    RETURN NULL;
  END IF;
  RETURN ROW(event.stream_id, concat_ws(' ', state.positions, event.position), pg_backend_pid())::seen;
END $$;
CREATE VIEW right_rows AS
  SELECT e.stream_id, string_agg(e.position::text, ' ' ORDER BY e.position) AS positions
    FROM refold.event AS e
   WHERE e.stream_version > (SELECT coalesce(max(c.stream_version), 0) FROM refold.event AS c
                              WHERE c.stream_id = e.stream_id AND c.event_type = 'closed')
   GROUP BY e.stream_id;
CREATE VIEW wrong_rows AS
  SELECT stream_id, s.positions, r.positions AS right FROM seen AS s FULL JOIN right_rows AS r USING (stream_id)
   WHERE s.positions IS DISTINCT FROM r.positions;
SET parallel_leader_participation = off;
SELECT events_replayed, rows_inserted FROM refold.create_projection('seen', 'fold_seen(seen, refold.event)');
SELECT count(*) AS rows, count(*) FILTER (WHERE pid = pg_backend_pid()) AS by_this_process FROM seen;
TABLE wrong_rows;

-- The same without workers.
SET max_parallel_workers_per_gather = 0;
SELECT events_replayed, rows_updated FROM refold.rebuild_projection('seen');
SELECT count(*) AS rows, count(*) FILTER (WHERE pid = pg_backend_pid()) AS by_this_process FROM seen;
TABLE wrong_rows;
RESET max_parallel_workers_per_gather;
-- Nor are there any for a fold that is not declared to be safe, or may change something; or has a key of its own.
ALTER FUNCTION fold_seen(seen, refold.event) PARALLEL UNSAFE;
SELECT rows_updated FROM refold.rebuild_projection('seen');
ALTER FUNCTION fold_seen(seen, refold.event) PARALLEL SAFE VOLATILE;
SELECT rows_updated FROM refold.rebuild_projection('seen');
ALTER FUNCTION fold_seen(seen, refold.event) STABLE;
SELECT rows_updated > 0 AS by_workers FROM refold.rebuild_projection('seen');

-- This process takes parts as well.
SET parallel_leader_participation = on;
SELECT events_replayed FROM refold.rebuild_projection('seen');
TABLE wrong_rows;
SET parallel_leader_participation = off;

-- An event after the last that the replay had, and one type of two.
SELECT refold.append_event('s-1', 'counted', '{}');
SELECT events_replayed FROM refold.rebuild_projection('seen');
TABLE wrong_rows;
CREATE TABLE counted (stream_id text PRIMARY KEY, n int NOT NULL);
CREATE FUNCTION fold_counted(state counted, event refold.event) RETURNS counted LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  $$ SELECT ROW(event.stream_id, coalesce(state.n, 0) + 1)::counted $$;
SELECT events_replayed, rows_inserted FROM
  refold.create_projection('counted', 'fold_counted(counted, refold.event)', event_types => '{counted}');
SELECT sum(n) FROM counted;
SELECT * FROM refold.verify_projection('counted');
UPDATE counted SET n = n + 1 WHERE stream_id = 's-17';
SELECT * FROM refold.verify_projection('counted');

-- Errors in a worker, whole; and what a handler must not do there. Which event it is depends on the worker.
CREATE FUNCTION fail_at(state counted, event refold.event) RETURNS counted LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  IF event.position = 1234 THEN
    RAISE invalid_escape_octet USING MESSAGE = 'no', DETAIL = 'a detail', HINT = 'a hint', CONSTRAINT = 'a constraint';
  END IF;
  RETURN ROW(event.stream_id, 1)::counted;
END $$;
CREATE FUNCTION other_key(state counted, event refold.event) RETURNS counted LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  $$ SELECT ROW('s-1', 1)::counted $$;
CREATE FUNCTION reads_live(state counted, event refold.event) RETURNS counted LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  RETURN (SELECT c FROM counted AS c WHERE c.stream_id = event.stream_id);
END $$;
CREATE FUNCTION appends(state counted, event refold.event) RETURNS counted LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  EXECUTE 'SELECT refold.append' || '_event(''another'', ''counted'', ''{}'')';
  RETURN ROW(event.stream_id, 1)::counted;
END $$;
CREATE FUNCTION calls_step(state counted, event refold.event) RETURNS counted LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  RETURN (SELECT refold._fold_part(state, event, 'fold_counted(counted, refold.event)'::regprocedure, 'counted'));
END $$;
CREATE FUNCTION calls_count(state counted, event refold.event) RETURNS counted LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  PERFORM refold._count_part(1);
  RETURN ROW(event.stream_id, 1)::counted;
END $$;
CREATE FUNCTION error_of(handler text) RETURNS TABLE (code text, message text, detail text, hint text, name text, context text)
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refold.rebuild_projection('counted', (handler || '(counted, refold.event)')::regprocedure);
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
    hint = PG_EXCEPTION_HINT, name = CONSTRAINT_NAME, context = PG_EXCEPTION_CONTEXT;
  context := regexp_replace(regexp_replace(context, '(stream "s-|position )\d+', '\1..', 'g'), '(PL/pg)?SQL expression', 'Expression');
  RETURN NEXT;
END $$;
\x on
SELECT error_of.* FROM unnest('{fail_at,other_key,reads_live,appends,calls_step,calls_count}'::text[]) AS h, error_of(h);
\x off
SELECT state, generation FROM refold.projections WHERE name = 'counted';

-- Only a replay's own statement gets to the step functions.
SELECT refold._fold_part(NULL::counted, e, 'fold_counted(counted, refold.event)'::regprocedure, 'counted') FROM refold.event AS e;
SELECT refold._count_part(1);
-- A worker knows of no replay. There it is a fold of a table's rows, of somebody who may call it, or nothing.
CREATE FUNCTION of_int(int, refold.event) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT $1';
CREATE FUNCTION of_bigint(bigint, refold.event) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT $1';
CREATE FUNCTION of_uuid(uuid, refold.event) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT $1';
CREATE FUNCTION of_text(text, refold.event) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT $1';
CREATE FUNCTION strict_counted(state counted, event refold.event) RETURNS counted LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
  'SELECT $1';
CREATE FUNCTION set_counted(state counted, event refold.event) RETURNS SETOF counted LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  'SELECT $1';
CREATE FUNCTION in_worker(call text) RETURNS TABLE (error text, place text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'SELECT refold._fold_part(' || call || ', ''x'') FROM refold.event AS e';
  error := 'none';
  RETURN NEXT;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS place = PG_EXCEPTION_CONTEXT;
  error := SQLSTATE || ' ' || SQLERRM;
  place := substring(place FROM 'parallel worker');
  RETURN NEXT;
END $$;
CREATE ROLE regress_refold_forger;
GRANT USAGE ON SCHEMA refold TO regress_refold_forger;
GRANT SELECT ON refold.event TO regress_refold_forger;
REVOKE EXECUTE ON FUNCTION fold_counted(counted, refold.event) FROM PUBLIC;
SET parallel_leader_participation = on;
SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
SET ROLE regress_refold_forger;
SELECT c AS call, w.* FROM unnest(ARRAY[
  '1, e, ''of_int''::regproc', '1::bigint, e, ''of_bigint''::regproc', 'NULL::uuid, e, ''of_uuid''::regproc',
  '''t''::text, e, ''of_text''::regproc', 'NULL::counted, e, ''of_text''::regproc',
  'NULL::counted, e, ''strict_counted''::regproc', 'NULL::counted, e, ''set_counted''::regproc',
  'NULL::counted, e, 0', 'NULL::counted, e, NULL', 'NULL::counted, NULL, ''fold_counted''::regproc',
  'NULL::counted, e, ''fold_counted''::regproc', 'NULL::counted, e, ''other_key''::regproc']) AS c, in_worker(c) AS w;
RESET ROLE;
SELECT set_config(name, 'off', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
GRANT EXECUTE ON FUNCTION fold_counted(counted, refold.event) TO PUBLIC;
DROP OWNED BY regress_refold_forger;
DROP ROLE regress_refold_forger;

-- Cuts that PostgreSQL has not used for workers: nothing keeps the handler from altering its table, but that is seen.
CREATE FUNCTION alter_counted() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  ALTER TABLE counted ALTER COLUMN n TYPE text;
END $$;
CREATE FUNCTION alters(state counted, event refold.event) RETURNS counted LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  made counted := ROW(event.stream_id, 1);
BEGIN
  IF event.position = 1 THEN
    PERFORM alter_counted();
  END IF;
  RETURN made;
END $$;
SET parallel_setup_cost = 1e9;
SELECT code, message FROM error_of('alters');
RESET parallel_setup_cost;

-- As the projection's owner, who is no superuser.
CREATE ROLE regress_refold_parallel;
GRANT USAGE ON SCHEMA refold TO regress_refold_parallel;
GRANT SELECT ON refold.event TO regress_refold_parallel;
CREATE TABLE owned (stream_id text PRIMARY KEY, folded_by text NOT NULL, path text NOT NULL, zone text NOT NULL);
ALTER TABLE owned OWNER TO regress_refold_parallel;
CREATE FUNCTION fold_owned(state owned, event refold.event) RETURNS owned LANGUAGE sql STABLE PARALLEL SAFE AS
  $$ SELECT ROW(event.stream_id, current_user, current_setting('search_path'), current_setting('TimeZone'))::owned $$;
SET TimeZone = 'Asia/Tokyo';
SELECT rows_inserted FROM refold.create_projection('owned', 'fold_owned(owned, refold.event)');
SET TimeZone = 'UTC';
SELECT rows_updated FROM refold.rebuild_projection('owned');
SELECT DISTINCT folded_by, path, zone FROM owned;
DROP TABLE owned CASCADE;
SELECT refold.drop_projection('owned');
DROP OWNED BY regress_refold_parallel;
DROP ROLE regress_refold_parallel;
