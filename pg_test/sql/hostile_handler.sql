SET client_min_messages = warning;
CREATE EXTENSION refold;
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/jobs.sql'
\i :include

-- A developer with all the privileges that there are short of a superuser's, whose handler does what the events say.
CREATE ROLE hostile_dev;
CREATE ROLE hostile_friend;
GRANT hostile_friend TO hostile_dev;
SELECT format('GRANT CREATE ON DATABASE %I TO hostile_dev', current_database()) AS grant_create \gset
:grant_create;
GRANT USAGE ON SCHEMA refold TO hostile_dev;
GRANT SELECT ON refold.event TO hostile_dev;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA refold TO hostile_dev;
CREATE SCHEMA dev AUTHORIZATION hostile_dev;
CREATE TABLE secret AS SELECT 'of the superuser' AS text;
SET ROLE hostile_dev;
SET search_path = dev;
CREATE TABLE tried (stream_id text PRIMARY KEY, command text NOT NULL, outcome text NOT NULL, as_user text NOT NULL);
CREATE PROCEDURE commit_it() LANGUAGE plpgsql AS 'BEGIN COMMIT; END';
CREATE FUNCTION on_try(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  path text := current_setting('search_path');
  outcome text := 'done';
BEGIN
  BEGIN
    EXECUTE event.data ->> 0;
  EXCEPTION WHEN OTHERS THEN
    outcome := SQLSTATE || ' ' || SQLERRM;
  END;
  PERFORM set_config('search_path', path, false);
  INSERT INTO tried VALUES (event.stream_id, event.data ->> 0, outcome, current_user);
END $$;
CREATE FUNCTION on_try_2(event refold.event) RETURNS void LANGUAGE plpgsql AS
  $$ BEGIN PERFORM dev.on_try(event); END $$;
SELECT generation FROM refold.create_projection('try', 'on_try(refold.event)', '{tried}', '{try}');
RESET search_path;
RESET ROLE;
CREATE TABLE attempt (n int GENERATED ALWAYS AS IDENTITY, command text);
INSERT INTO attempt (command) VALUES
  ('SELECT 1'),
  ('SET ROLE postgres'), ('RESET ROLE'), ('SET ROLE hostile_friend'), ('SET LOCAL ROLE NONE'),
  ('SELECT set_config(''role'', ''postgres'', false)'),
  ('SET SESSION AUTHORIZATION postgres'), ('RESET SESSION AUTHORIZATION'), ('SET LOCAL SESSION AUTHORIZATION DEFAULT'),
  ('RESET ALL'),
  ('COMMIT'), ('ROLLBACK'), ('SAVEPOINT s'), ('DO ''BEGIN COMMIT; END'''), ('CALL dev.commit_it()'), ('SET TRANSACTION READ ONLY'),
  ('CREATE TEMP TABLE pg_class ()'), ('CREATE TEMP VIEW v AS SELECT 1'), ('PREPARE p AS SELECT 1'), ('DEALLOCATE ALL'),
  ('DISCARD ALL'), ('CLOSE ALL'), ('LISTEN x'), ('UNLISTEN *'), ('DECLARE c CURSOR WITH HOLD FOR SELECT 1'), ('LOAD ''refold'''),
  ('TABLE public.secret'), ('SELECT pg_read_file(''PG_VERSION'')'), ('COPY dev.tried TO PROGRAM ''true'''),
  ('ALTER ROLE hostile_dev SUPERUSER'), ('CREATE FUNCTION f() RETURNS void LANGUAGE c AS ''refold'', ''refold_open_store'''),
  ('DROP EXTENSION refold'), ('ALTER EXTENSION refold UPDATE'), ('ALTER SCHEMA refold RENAME TO mine'),
  ('ALTER TABLE refold.event DISABLE TRIGGER ALL'), ('TRUNCATE refold.event'), ('SELECT setval(''refold.event_position_seq'', 1)'),
  ('UPDATE refold.projection SET owner = 10'), ('INSERT INTO refold.skipped_event VALUES (1, 1, '''')'),
  ('LOCK TABLE refold.gate IN SHARE ROW EXCLUSIVE MODE'), ('LOCK TABLE refold.event IN SHARE MODE'),
  ('SELECT pg_advisory_unlock_all()'),
  ('SELECT refold.append_event(''x'', ''try'', ''["SELECT 1"]'')'), ('SELECT refold.append_events(''x'', ''[{"type": "try", "data": 1}]'')'),
  ('SELECT refold.create_projection(''x'', ''dev.on_try(refold.event)'', ''{dev.tried}'')'),
  ('SELECT refold.rebuild_projection(''try'')'), ('SELECT refold.verify_projection(''try'')'), ('SELECT refold.drop_projection(''try'')'),
  ('SELECT refold.lock_gate()'), ('SELECT refold.open_store()'), ('SELECT refold.start_rebuild(''try'')'),
  ('CALL refold.rebuild_projection_concurrently(''try'')'), ('SELECT refold.pause_rebuild(''try'')'),
  ('SELECT refold.resume_rebuild(''try'')'), ('SELECT refold.cancel_rebuild(''try'')'), ('SELECT refold.finish_rebuild(''try'')'),
  ('SELECT refold.rollback_projection(''try'')'), ('SELECT refold.skip_event(''try'', 1, '''')'),
  ('SELECT refold._shadow_step(''try'', ''create'')'), ('SELECT refold._swap_storage(''dev.tried'', ''dev.tried'')'),
  ('SET search_path = nowhere'), ('SET LOCAL search_path = nowhere'), ('SET refold.gate_timeout = 1'), ('SET refold.rebuild_batch_time = 1'),
  ('SET session_replication_role = replica'), ('SET row_security = off'), ('SET client_min_messages = error');

-- By appends. The session is what it was.
SELECT count(refold.append_event('try-' || n, 'try', jsonb_build_array(command))) FROM attempt;
SELECT command, CASE WHEN command ~ '^(COPY|ALTER ROLE)' THEN left(outcome, 5) || ' (each version has words of its own)' ELSE outcome END AS outcome
  FROM dev.tried JOIN attempt USING (command) ORDER BY n;
SELECT DISTINCT as_user FROM dev.tried;
SELECT current_user, session_user, current_setting('search_path') AS path, current_setting('role') AS role,
       current_setting('row_security') AS row_security, current_setting('client_min_messages') AS messages;
-- And so in each kind of replay, by whomever: no outcome is another.
SELECT * FROM refold.verify_projection('try');
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('try');
SELECT current_user, session_user, current_setting('search_path') AS path, current_setting('role') AS role;
CALL refold.rebuild_projection_concurrently('try', verify => true);
SELECT * FROM refold.verify_projection('try');
CALL refold.rebuild_projection_concurrently('try', in_place => true);
SELECT * FROM refold.verify_projection('try');
-- Mirrored: the appends of the grace period reach the shadow by the old handler, and the rollback shows it.
CALL refold.rebuild_projection_concurrently('try', 'dev.on_try_2(refold.event)', grace => '1 day');
SELECT count(refold.append_event('mirrored-' || n, 'try', jsonb_build_array(command))) FROM attempt;
SELECT mirror_failures FROM refold.rebuild_jobs WHERE state = 'running';
-- A handler gives back its session's advisory locks; the worker takes again the one that shows it is there.
CALL wait_until('SELECT count(*) = 1 FROM pg_locks WHERE locktype = ''advisory'' AND objsubid = 14 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())');
SELECT refold.rollback_projection('try');
SELECT count(*), count(DISTINCT (command, outcome, as_user)) = count(*) / 2 AS each_twice FROM dev.tried;
SELECT * FROM refold.verify_projection('try');
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');

-- A trigger on the read model and a key function are user code as well: no appends, no recursion.
SET ROLE hostile_dev;
SET search_path = dev;
CREATE TABLE loud (id text PRIMARY KEY, n int);
CREATE FUNCTION append_more() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM refold.append_event('more', 'loud', '{}'); RETURN NULL; END $$;
CREATE FUNCTION fold_loud(state loud, event refold.event) RETURNS loud LANGUAGE sql AS
  $$ SELECT ROW(event.stream_id, coalesce(state.n, 0) + 1)::loud $$;
CREATE FUNCTION loud_key(event refold.event) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN PERFORM refold.append_event('more', 'loud', '{}'); RETURN event.stream_id; END $$;
SELECT generation FROM refold.create_projection('loud', 'fold_loud(loud, refold.event)', event_types => '{loud}');
RESET search_path;
RESET ROLE;
SELECT stream_version FROM refold.append_event('loud', 'loud', '{}');
SET ROLE hostile_dev;
UPDATE dev.loud SET n = 7;
CREATE TRIGGER more AFTER INSERT OR UPDATE ON dev.loud FOR EACH ROW EXECUTE FUNCTION dev.append_more();
RESET ROLE;
\set SHOW_CONTEXT never
SELECT refold.append_event('loud', 'loud', '{}');
SELECT refold.rebuild_projection('loud');
SELECT refold.rebuild_projection('loud', key => '{"id": "loud"}');
-- Deferred, it would run at the commit, as whoever commits: refused.
SET ROLE hostile_dev;
DROP TRIGGER more ON dev.loud;
CREATE CONSTRAINT TRIGGER more AFTER INSERT OR UPDATE ON dev.loud DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  EXECUTE FUNCTION dev.append_more();
RESET ROLE;
SELECT refold.append_event('loud', 'loud', '{}');
SELECT refold.rebuild_projection('loud');
SET ROLE hostile_dev;
DROP TRIGGER more ON dev.loud;
CREATE CONSTRAINT TRIGGER more AFTER INSERT OR UPDATE ON dev.loud DEFERRABLE FOR EACH ROW EXECUTE FUNCTION dev.append_more();
RESET ROLE;
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
SELECT refold.append_event('loud', 'loud', '{}');
ROLLBACK;
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
SELECT refold.rebuild_projection('loud');
ROLLBACK;
SELECT refold.drop_projection('loud');
TRUNCATE dev.loud;
SELECT refold.create_projection('loud', 'dev.fold_loud(dev.loud, refold.event)', event_types => '{loud}', key => 'dev.loud_key(refold.event)');
\set SHOW_CONTEXT errors
DROP TABLE dev.loud CASCADE;

-- A handler that destroys its own projection: what comes of it in the append, and after it.
SET ROLE hostile_dev;
SET search_path = dev;
CREATE TABLE own (id text PRIMARY KEY, n int);
CREATE FUNCTION on_own(event refold.event) RETURNS void LANGUAGE plpgsql AS
  $$ BEGIN EXECUTE event.data ->> 0; END $$;
SELECT generation FROM refold.create_projection('own', 'on_own(refold.event)', '{own}', '{own}');
RESET search_path;
RESET ROLE;
CREATE FUNCTION destroy(command text, OUT first text, OUT state text, OUT next text, OUT rebuilt text, OUT verified text) LANGUAGE plpgsql AS $$
BEGIN
  BEGIN
    first := 'done'; next := 'done'; rebuilt := 'done'; verified := 'done';
    BEGIN
      PERFORM refold.append_event('own', 'own', jsonb_build_array(command));
    EXCEPTION WHEN OTHERS THEN first := SQLSTATE || ' ' || SQLERRM;
    END;
    SELECT p.state INTO state FROM refold.projections AS p WHERE p.name = 'own';
    BEGIN
      PERFORM refold.append_event('own', 'own', '["SELECT 1"]');
    EXCEPTION WHEN OTHERS THEN next := SQLSTATE || ' ' || SQLERRM;
    END;
    RAISE EXCEPTION USING ERRCODE = 'ROLLB';
  EXCEPTION WHEN SQLSTATE 'ROLLB' THEN NULL;
  END;
  BEGIN
    PERFORM set_config('dev.command', command, true);
    SET LOCAL ROLE hostile_dev;
    CREATE OR REPLACE FUNCTION dev.on_own(event refold.event) RETURNS void LANGUAGE plpgsql AS
      'BEGIN EXECUTE current_setting(''dev.command''); END';
    RESET ROLE;
    BEGIN
      PERFORM refold.verify_projection('own');
    EXCEPTION WHEN OTHERS THEN verified := SQLSTATE || ' ' || regexp_replace(SQLERRM, 'refold_copy_\d+', 'refold_copy');
    END;
    BEGIN
      PERFORM refold.rebuild_projection('own');
    EXCEPTION WHEN OTHERS THEN rebuilt := SQLSTATE || ' ' || regexp_replace(SQLERRM, 'refold_copy_\d+', 'refold_copy');
    END;
    RAISE EXCEPTION USING ERRCODE = 'ROLLB';
  EXCEPTION WHEN SQLSTATE 'ROLLB' THEN NULL;
  END;
END $$;
SELECT stream_version FROM refold.append_event('own', 'own', '["SELECT 1"]');
\x
SELECT c AS command, d.* FROM unnest(ARRAY[
  'DROP TABLE own', 'DROP TABLE dev.own', 'TRUNCATE own', 'ALTER TABLE own ADD COLUMN m int', 'ALTER TABLE own RENAME TO other',
  'ALTER TABLE dev.own RENAME TO other', 'ALTER TABLE own OWNER TO hostile_friend', 'ALTER TABLE dev.own OWNER TO hostile_friend',
  'ALTER TABLE own ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', 'ALTER SCHEMA dev RENAME TO other', 'DROP FUNCTION dev.on_own(refold.event)',
  'CREATE OR REPLACE FUNCTION dev.on_own(event refold.event) RETURNS void LANGUAGE sql AS ''''',
  'ALTER FUNCTION dev.on_own(refold.event) OWNER TO hostile_friend',
  'DO $x$BEGIN EXECUTE format(''DROP SCHEMA %I CASCADE'', current_schema); END$x$',
  'DO $x$BEGIN EXECUTE format(''ALTER SCHEMA %I RENAME TO hidden'', current_schema); END$x$']) AS c, destroy(c) AS d;
\x
SELECT name, state FROM refold.projections ORDER BY name;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'refold\_%' OR nspname = 'hidden';
SELECT * FROM refold.verify_projection('own');
SELECT rolname, rolsuper FROM pg_roles WHERE rolname LIKE 'hostile%';

DROP EXTENSION refold CASCADE;
DROP OWNED BY hostile_dev, hostile_friend CASCADE;
DROP ROLE hostile_dev, hostile_friend;
