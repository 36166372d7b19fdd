SET client_min_messages = warning;
CREATE EXTENSION refold;
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/jobs.sql'
\i :include

-- A schema full of traps: a twin of each operator, function, table and type of pg_catalog that raises for everybody but its
-- author, first on everybody's search_path.
CREATE ROLE hostile;
CREATE SCHEMA evil AUTHORIZATION hostile;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.trap() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF current_user OPERATOR(pg_catalog.<>) 'hostile'::pg_catalog.name THEN
    RAISE EXCEPTION 'trapped: code of hostile runs as %', current_user;
  END IF;
  RETURN true;
END $$;
ALTER FUNCTION evil.trap() OWNER TO hostile;
CREATE FUNCTION try(command text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE command;
  RETURN true;
EXCEPTION WHEN OTHERS THEN
  RETURN false;
END $$;
SELECT count(*) FILTER (WHERE made) > 2000 AS functions FROM (
  SELECT try(format('CREATE FUNCTION evil.%1$I(%2$s%3$s) RETURNS %4$s LANGUAGE plpgsql IMMUTABLE AS %5$L', p.proname,
           array_to_string((p.proargtypes::oid[])[0:p.pronargs - 2]::regtype[] ||
             CASE WHEN p.provariadic = 0 THEN (p.proargtypes::oid[])[p.pronargs - 1:]::regtype[] END, ', '),
           CASE WHEN p.provariadic <> 0 THEN CASE WHEN p.pronargs > 1 THEN ', ' ELSE '' END || 'VARIADIC ' || p.proargtypes[p.pronargs - 1]::regtype END,
           pg_get_function_result(p.oid),
           format('BEGIN PERFORM evil.trap(); RETURN%s pg_catalog.%I(%s); END', CASE WHEN p.proretset THEN ' QUERY SELECT' ELSE '' END,
             p.proname,
             (SELECT string_agg(CASE WHEN p.provariadic <> 0 AND n = p.pronargs THEN 'VARIADIC ' ELSE '' END || '$' || n, ', ' ORDER BY n)
                FROM generate_series(1, p.pronargs) AS n)))) AS made
    FROM pg_proc AS p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f') AS f;
SELECT count(*) FILTER (WHERE made) > 700 AS operators FROM (
  SELECT try(format('CREATE FUNCTION evil."op_%1$s"(%2$s) RETURNS %3$s LANGUAGE plpgsql IMMUTABLE AS %4$L; '
             'CREATE OPERATOR evil.%5$s (FUNCTION = evil."op_%1$s", %6$s RIGHTARG = %7$s)', o.oid,
           concat_ws(', ', nullif(o.oprleft, 0)::regtype, o.oprright::regtype), o.oprresult::regtype,
           format('BEGIN PERFORM evil.trap(); RETURN %s OPERATOR(pg_catalog.%s) $%s; END',
             CASE WHEN o.oprleft <> 0 THEN '$1' END, o.oprname, CASE WHEN o.oprleft <> 0 THEN 2 ELSE 1 END),
           o.oprname, CASE WHEN o.oprleft <> 0 THEN format('LEFTARG = %s,', o.oprleft::regtype) END, o.oprright::regtype)) AS made
    FROM pg_operator AS o WHERE o.oprnamespace = 'pg_catalog'::regnamespace) AS o;
SELECT count(*) FILTER (WHERE made) > 100 AS tables FROM (
  SELECT try(format('CREATE VIEW evil.%1$I AS SELECT * FROM pg_catalog.%1$I WHERE evil.trap()', c.relname)) AS made
    FROM pg_class AS c WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v')) AS c;
SELECT count(*) FILTER (WHERE made) AS types FROM (
  SELECT try(format('CREATE DOMAIN evil.%1$I AS pg_catalog.%1$I CHECK (evil.trap())', t)) AS made
    FROM unnest('{text,name,oid,int4,int8,bool,uuid,jsonb,regclass,regprocedure,regtype,timestamptz}'::text[]) AS t) AS t;
CREATE FUNCTION evil.count_one(bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN PERFORM evil.trap(); RETURN $1 OPERATOR(pg_catalog.+) 1; END';
CREATE FUNCTION evil.larger(bigint, bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN PERFORM evil.trap(); RETURN greatest($1, $2); END';
CREATE FUNCTION evil.plus(bigint, bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN PERFORM evil.trap(); RETURN coalesce($1, 0) OPERATOR(pg_catalog.+) coalesce($2, 0); END';
CREATE AGGREGATE evil.count(*) (SFUNC = evil.count_one, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE evil.max(bigint) (SFUNC = evil.larger, STYPE = bigint);
CREATE AGGREGATE evil.sum(bigint) (SFUNC = evil.plus, STYPE = bigint);
CREATE TYPE evil.mood AS ENUM ('calm', 'cross');
CREATE FUNCTION evil.mood_to_json(evil.mood) RETURNS json LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN PERFORM evil.trap(); RETURN pg_catalog.to_json(''mood''::pg_catalog.text); END';
CREATE CAST (evil.mood AS json) WITH FUNCTION evil.mood_to_json(evil.mood);
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA evil TO PUBLIC;
SELECT format('ALTER DATABASE %I SET search_path = evil, pg_catalog, public', current_database()) AS lead_astray \gset
:lead_astray;
GRANT USAGE ON SCHEMA refold TO hostile;
GRANT SELECT ON refold.event TO hostile;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA refold TO hostile;
GRANT CREATE ON SCHEMA evil TO hostile;
\c -
SHOW search_path;
-- They work.
SELECT 1 = 1;
SELECT lower('a');
SELECT 'a'::text;
SELECT * FROM pg_class;
SELECT max(1::bigint);

-- Read models on which code of hostile's hangs wherever it can.
SET ROLE hostile;
CREATE FUNCTION evil.twice(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN PERFORM evil.trap(); RETURN 2 OPERATOR(pg_catalog.*) $1; END';
CREATE FUNCTION evil.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM evil.trap(); RETURN NULL; END';
CREATE DOMAIN evil.amount AS int CHECK (evil.trap());
CREATE TABLE evil.cart (
  id pg_catalog.text PRIMARY KEY, n evil.amount, mood evil.mood DEFAULT CASE WHEN evil.trap() THEN 'calm'::evil.mood END,
  doubled int GENERATED ALWAYS AS (evil.twice(n)) STORED, CHECK (evil.trap())
);
CREATE INDEX ON evil.cart (evil.twice(n::int)) WHERE evil.trap();
CREATE TRIGGER fire AFTER INSERT OR UPDATE OR DELETE ON evil.cart FOR EACH ROW EXECUTE FUNCTION evil.fire();
CREATE TRIGGER fire_all AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON evil.cart EXECUTE FUNCTION evil.fire();
CREATE TABLE evil.seen (LIKE evil.cart INCLUDING ALL);
CREATE TRIGGER fire AFTER INSERT OR UPDATE OR DELETE ON evil.seen FOR EACH ROW WHEN (evil.trap()) EXECUTE FUNCTION evil.fire();
CREATE TABLE evil.lots (LIKE evil.cart INCLUDING ALL);
CREATE FUNCTION evil.key_of(event refold.event) RETURNS pg_catalog.text LANGUAGE plpgsql AS
  'BEGIN PERFORM evil.trap(); RETURN upper(event.stream_id); END';
CREATE FUNCTION evil.fold_cart(state evil.cart, event refold.event) RETURNS evil.cart LANGUAGE plpgsql AS $$
BEGIN
  PERFORM evil.trap();
  IF event.event_type = 'gone' THEN RETURN NULL; END IF;
  RETURN ROW(upper(event.stream_id), coalesce(state.n, 0) + 1, 'cross', NULL)::evil.cart;
END $$;
CREATE FUNCTION evil.fold_cart_2(state evil.cart, event refold.event) RETURNS evil.cart LANGUAGE plpgsql AS
  'BEGIN PERFORM evil.trap(); RETURN evil.fold_cart(state, event); END';
CREATE FUNCTION evil.on_seen(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM evil.trap();
  INSERT INTO seen AS s (id, n) VALUES (event.stream_id, 1) ON CONFLICT (id) DO UPDATE SET n = s.n::int + 1;
END $$;
CREATE FUNCTION evil.on_seen_2(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM evil.trap();
  INSERT INTO seen AS s (id, n) VALUES (event.stream_id, 1) ON CONFLICT (id) DO UPDATE SET n = s.n::int + 1;
END $$;
CREATE FUNCTION evil.on_lots(events refold.event[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM evil.trap();
  INSERT INTO lots AS l (id, n) SELECT e.stream_id, 1 FROM pg_catalog.unnest(events) AS e GROUP BY 1 ON CONFLICT (id) DO NOTHING;
END $$;
SELECT generation FROM refold.create_projection('cart', 'evil.fold_cart(evil.cart, refold.event)', key => 'evil.key_of(refold.event)');
SELECT generation FROM refold.create_projection('seen', 'evil.on_seen(refold.event)', '{evil.seen}', serial => true);
SELECT generation FROM refold.create_projection('lots', 'evil.on_lots(refold.event[])', '{evil.lots}', '{added}');
RESET ROLE;

-- Whatever a superuser does now, not one trap closes.
SELECT stream_version FROM refold.append_event('s-1', 'added', '{}');
SELECT stream_version FROM refold.append_event('s-1', 'added', '{}', expected_version => 1, event_id => '01920000-0000-7000-8000-000000000001');
SELECT stream_version FROM refold.append_event('s-1', 'added', '{}', expected_version => 1, event_id => '01920000-0000-7000-8000-000000000001');
SELECT stream_version FROM refold.append_events('s-2', '[{"type": "added", "data": 1}, {"type": "other", "data": 2}]');
SELECT stream_version FROM refold.append_event('s-3', 'added', '{}');
SELECT stream_version FROM refold.append_event('s-3', 'gone', '{}');
SELECT stream_version FROM refold.read_stream('s-1');
SELECT position FROM refold.read_all(event_types => '{added}');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT stream_version FROM refold.append_event('s-4', 'added', '{}');
COMMIT;
SELECT rows_updated FROM refold.rebuild_projection('cart');
SELECT rows_updated FROM refold.rebuild_projection('seen');
SELECT rows_updated FROM refold.rebuild_projection('lots');
SELECT rows_updated FROM refold.rebuild_projection('cart', key => '{"id": "S-1"}');
SELECT * FROM refold.verify_projection('cart');
SELECT * FROM refold.verify_projection('seen');
SELECT * FROM refold.verify_projection('lots');
-- With rows to change, to show and to mend.
SET ROLE hostile;
UPDATE evil.cart SET n = 77 WHERE id OPERATOR(pg_catalog.=) 'S-1';
DELETE FROM evil.seen WHERE id OPERATOR(pg_catalog.=) 's-1';
INSERT INTO evil.lots (id, n) VALUES ('s-x', 7);
RESET ROLE;
SELECT relation, key, live, rebuilt FROM refold.verify_projection('cart');
SELECT relation, key, live, rebuilt FROM refold.verify_projection('seen');
SELECT relation, key, live, rebuilt FROM refold.verify_projection('lots');
SELECT rows_updated FROM refold.rebuild_projection('cart', key => '{"id": "S-1"}');
SELECT rows_inserted FROM refold.rebuild_projection('seen');
CALL refold.rebuild_projection_concurrently('lots', verify => true);
CALL refold.rebuild_projection_concurrently('seen', in_place => true);
CALL refold.rebuild_projection_concurrently('cart', in_place => true, verify => true);
-- Mirrored, and back.
CALL refold.rebuild_projection_concurrently('cart', 'evil.fold_cart_2(evil.cart, refold.event)', verify => true, grace => '1 day');
CALL refold.rebuild_projection_concurrently('seen', 'evil.on_seen_2(refold.event)', grace => '1 day');
SELECT stream_version FROM refold.append_event('s-1', 'added', '{}');
SELECT stream_version FROM refold.append_events('s-5', '[{"type": "added", "data": 1}, {"type": "added", "data": 2}]');
SELECT projection, state, phase, error_message, mirror_failures FROM refold.rebuild_jobs ORDER BY job_id;
SELECT refold.pause_rebuild('seen');
SELECT refold.resume_rebuild('seen') IS NOT NULL AS resumed;
SELECT refold.rollback_projection('cart');
SELECT refold.finish_rebuild('seen');
SELECT stream_version FROM refold.append_event('s-1', 'added', '{}');
SELECT refold.skip_event('lots', 1, 'of no use');
CALL refold.rebuild_projection_concurrently('lots');
SELECT projection, waits_for FROM refold.rebuild_progress;
SELECT name, state FROM refold.projections ORDER BY name;
-- Restored, and adopted by the first append.
SET session_replication_role = replica;
UPDATE refold.installation SET opened_on = NULL, installation_id = pg_catalog.gen_random_uuid();
RESET session_replication_role;
\c -
SELECT name, state FROM refold.projections ORDER BY name;
SELECT stream_version FROM refold.append_event('s-1', 'added', '{}');
SELECT name, state FROM refold.projections ORDER BY name;
SELECT * FROM refold.verify_projection('cart');
SELECT * FROM refold.verify_projection('seen');
SET ROLE hostile;
SELECT id, n, doubled FROM evil.cart ORDER BY id;
RESET ROLE;
SELECT refold.drop_projection('cart');
SELECT rolname, rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'hostile';

SET search_path = pg_catalog, public;
SET client_min_messages = warning;
CALL wait_until('SELECT bool_and(state IN (''done'', ''cancelled'')) FROM refold.rebuild_jobs');
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
SELECT format('ALTER DATABASE %I RESET search_path', current_database()) AS find_back \gset
:find_back;
DROP EXTENSION refold CASCADE;
DROP SCHEMA evil CASCADE;
DROP OWNED BY hostile CASCADE;
DROP ROLE hostile;
