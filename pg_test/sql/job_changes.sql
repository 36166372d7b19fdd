CREATE EXTENSION refold;
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/jobs.sql'
\i :include

-- What users do to a job's objects while it is paused, or at work.
CREATE ROLE job_changes_owner;
CREATE ROLE job_changes_other;
CREATE SCHEMA shop AUTHORIZATION job_changes_owner;
GRANT USAGE ON SCHEMA refold TO job_changes_owner, job_changes_other;
GRANT SELECT ON refold.event TO job_changes_owner, job_changes_other;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA refold TO job_changes_owner;
GRANT EXECUTE ON PROCEDURE refold.rebuild_projection_concurrently TO job_changes_owner;
SET ROLE job_changes_owner;
SET search_path = shop;
CREATE TABLE cart (cart_id text PRIMARY KEY, n int);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  IF event.data = '"park"' THEN
    PERFORM pg_advisory_xact_lock_shared(1);
  END IF;
  RETURN ROW(event.stream_id, coalesce(state.n, 0) + 1);
END $$;
SELECT generation FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
RESET search_path;
RESET ROLE;
SELECT count(refold.append_event('c-' || n % 10, 'added', CASE n WHEN 1800 THEN jsonb '"park"' ELSE '1' END)) FROM generate_series(1, 2000) AS n;
\set parked 'SELECT waits_for <> ''{}'' AND events_done > 0 FROM refold.rebuild_progress WHERE phase = ''building'''
CREATE VIEW last_job AS SELECT state, phase, error_sqlstate, error_message, error_detail, error_position FROM refold.rebuild_jobs ORDER BY job_id DESC LIMIT 1;

-- Starts a job that parks while it builds.
PREPARE start AS SELECT refold.start_rebuild('cart') > 0 AS started FROM pg_advisory_lock(1);

-- A column added: refused where the two would change places; the job can be cancelled.
EXECUTE start;
CALL wait_until(:'parked');
SET lock_timeout = '100ms';
ALTER TABLE shop.cart ADD note text;
RESET lock_timeout;
SELECT refold.pause_rebuild('cart');
SELECT pg_advisory_unlock(1);
CALL wait_until('SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = ''refold rebuild'' AND datname = current_database()');
ALTER TABLE shop.cart ADD note text;
CREATE OR REPLACE FUNCTION shop.fold_cart(state shop.cart, event refold.event) RETURNS shop.cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 1, 'x'
$$;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'paused');
TABLE last_job;
SELECT refold.cancel_rebuild('cart');
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
CALL refold.rebuild_projection_concurrently('cart');
SELECT * FROM refold.verify_projection('cart');
SELECT * FROM shop.cart WHERE cart_id = 'c-1';

-- An index added while the job is paused: the shadow has none like it. Dropped again, the job goes on.
CREATE OR REPLACE FUNCTION shop.fold_cart(state shop.cart, event refold.event) RETURNS shop.cart LANGUAGE plpgsql AS $$
BEGIN
  IF event.data = '"park"' THEN
    PERFORM pg_advisory_xact_lock_shared(1);
  END IF;
  RETURN ROW(event.stream_id, coalesce(state.n, 0) + 1, 'x'::text);
END $$;
SELECT generation FROM refold.rebuild_projection('cart');
EXECUTE start;
CALL wait_until(:'parked');
SELECT refold.pause_rebuild('cart');
SELECT pg_advisory_unlock(1);
CREATE INDEX cart_n ON shop.cart (n);
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'paused');
TABLE last_job;
SELECT refold.append_event('c-1', 'added', '1') IS NOT NULL AS appended;
DROP INDEX shop.cart_n;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'done');
SELECT * FROM refold.verify_projection('cart');

-- A published table: refused at the swap; a grant, a view, a policy: kept.
EXECUTE start;
CALL wait_until(:'parked');
SELECT refold.pause_rebuild('cart');
SELECT pg_advisory_unlock(1);
SET client_min_messages = error; -- whatever wal_level is
CREATE PUBLICATION job_changes FOR TABLE shop.cart;
RESET client_min_messages;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'paused');
TABLE last_job;
DROP PUBLICATION job_changes;
GRANT SELECT ON shop.cart TO job_changes_other;
CREATE VIEW shop.carts AS TABLE shop.cart;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'done');
-- From 17 on, the owner's rights have one more.
SELECT replace(relacl::text, 'xtm', 'xt') AS acl FROM pg_class WHERE oid = 'shop.cart'::regclass;
SELECT n FROM shop.carts WHERE cart_id = 'c-1';

-- The schema renamed: the tables are known by their OIDs.
EXECUTE start;
CALL wait_until(:'parked');
SELECT refold.pause_rebuild('cart');
SELECT pg_advisory_unlock(1);
ALTER SCHEMA shop RENAME TO store;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_until('SELECT state <> ''running'' FROM last_job');
TABLE last_job;
ALTER SCHEMA store RENAME TO shop;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_until('SELECT state <> ''running'' FROM last_job');
TABLE last_job;
SELECT * FROM refold.verify_projection('cart');

-- The shadow dropped by force, and its schema: only the extension's owner can do so.
EXECUTE start;
CALL wait_until(:'parked');
SELECT refold.pause_rebuild('cart');
SELECT pg_advisory_unlock(1);
CALL wait_until('SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = ''refold rebuild'' AND datname = current_database()');
DROP SCHEMA refold_shadow_1 CASCADE;
ALTER EXTENSION refold DROP TABLE refold_shadow_1.cart;
DROP TABLE refold_shadow_1.cart;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'paused');
TABLE last_job;
SELECT refold.cancel_rebuild('cart');
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');

-- Another owner: the handler would run as another role.
EXECUTE start;
CALL wait_until(:'parked');
SELECT refold.pause_rebuild('cart');
SELECT pg_advisory_unlock(1);
ALTER TABLE shop.cart OWNER TO job_changes_other;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_until('SELECT state <> ''running'' FROM last_job');
TABLE last_job;
ALTER TABLE shop.cart OWNER TO job_changes_owner;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'done');
SELECT * FROM refold.verify_projection('cart');

-- The handler dropped; the table dropped; the owner dropped.
EXECUTE start;
CALL wait_until(:'parked');
SELECT refold.pause_rebuild('cart');
SELECT pg_advisory_unlock(1);
CALL wait_until('SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = ''refold rebuild'' AND datname = current_database()');
BEGIN;
DROP FUNCTION shop.fold_cart(shop.cart, refold.event);
\set VERBOSITY terse
DO $$ BEGIN PERFORM refold.resume_rebuild('cart'); EXCEPTION WHEN OTHERS THEN RAISE NOTICE '% %', SQLSTATE, regexp_replace(SQLERRM, '\d+', 'N'); END $$;
SELECT refold.cancel_rebuild('cart');
SELECT state FROM last_job;
ROLLBACK;
BEGIN;
DROP TABLE shop.cart CASCADE;
DO $$ BEGIN PERFORM refold.resume_rebuild('cart'); EXCEPTION WHEN OTHERS THEN RAISE NOTICE '% %', SQLSTATE, regexp_replace(SQLERRM, '\d+', 'N'); END $$;
SELECT refold.cancel_rebuild('cart');
SELECT state FROM last_job;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'refold\_shadow%';
ROLLBACK;
\set VERBOSITY default
\set VERBOSITY terse
DROP OWNED BY job_changes_owner CASCADE;
SELECT refold.cancel_rebuild('cart');
SET client_min_messages = error; -- what goes with it
DROP OWNED BY job_changes_owner CASCADE;
RESET client_min_messages;
DROP ROLE job_changes_owner;
SELECT state FROM refold.projections;
SELECT refold.drop_projection('cart');
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
SELECT refold.append_event('c-1', 'added', '1') IS NOT NULL AS appended;
DROP OWNED BY job_changes_other;
DROP ROLE job_changes_other;
