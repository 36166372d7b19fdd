CREATE EXTENSION refold;
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/jobs.sql'
\i :include
CREATE ROLE job_privileges_stranger;
CREATE ROLE job_privileges_dev;
CREATE ROLE job_privileges_dba;
CREATE ROLE job_privileges_monitor IN ROLE pg_monitor;

-- A stranger may nothing.
GRANT USAGE ON SCHEMA refold TO job_privileges_stranger;
SET ROLE job_privileges_stranger;
SELECT refold.start_rebuild('cart');
CALL refold.rebuild_projection_concurrently('cart');
SELECT refold.pause_rebuild('cart');
SELECT refold.resume_rebuild('cart');
SELECT refold.cancel_rebuild('cart');
SELECT refold.finish_rebuild('cart');
SELECT refold.rollback_projection('cart');
SELECT refold.skip_event('cart', 1, 'no');
SELECT * FROM refold.rebuild_jobs;
SELECT * FROM refold.rebuild_job;
SELECT * FROM refold.mirror_failure;
SELECT * FROM refold.skipped_event;
RESET ROLE;

-- The owner of the tables may all of it, with the grants of the reference.
CREATE SCHEMA dev AUTHORIZATION job_privileges_dev;
GRANT USAGE ON SCHEMA refold TO job_privileges_dev, job_privileges_dba;
GRANT SELECT ON refold.event, refold.rebuild_jobs TO job_privileges_dev;
GRANT EXECUTE ON FUNCTION refold.create_projection, refold.verify_projection, refold.start_rebuild, refold.pause_rebuild, refold.resume_rebuild,
  refold.cancel_rebuild, refold.finish_rebuild, refold.rollback_projection, refold.skip_event TO job_privileges_dev, job_privileges_dba;
GRANT EXECUTE ON PROCEDURE refold.rebuild_projection_concurrently TO job_privileges_dev, job_privileges_dba;
SET ROLE job_privileges_dev;
SET search_path = dev;
CREATE TABLE cart (cart_id text PRIMARY KEY, n int, runs_as text);
CREATE FUNCTION on_cart(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO cart AS c VALUES (event.stream_id, 1, concat_ws(' ', session_user, current_user))
  ON CONFLICT (cart_id) DO UPDATE SET n = c.n + 1, runs_as = excluded.runs_as
$$;
CREATE FUNCTION on_cart_2(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO cart AS c VALUES (event.stream_id, 10, current_user) ON CONFLICT (cart_id) DO UPDATE SET n = c.n + 10
$$;
SELECT generation FROM refold.create_projection('cart', 'on_cart(refold.event)', '{cart}');
RESET search_path;
RESET ROLE;
SELECT count(refold.append_event('c-1', 'added', '1')) FROM generate_series(1, 3);
SET ROLE job_privileges_dev;
-- The worker's session is the owner's, whoever starts the job: nothing that a handler leaves behind runs as a superuser.
CALL refold.rebuild_projection_concurrently('cart');
SELECT * FROM dev.cart;
CALL refold.rebuild_projection_concurrently('cart', in_place => true);
SELECT * FROM dev.cart;
CALL refold.rebuild_projection_concurrently('cart', 'dev.on_cart_2(refold.event)', grace => '1 day');
SELECT refold.pause_rebuild('cart');
SELECT refold.resume_rebuild('cart');
SELECT * FROM refold_shadow_1.cart;
DROP TABLE refold_shadow_1.cart;
SELECT refold.rollback_projection('cart');
CALL refold.rebuild_projection_concurrently('cart', 'dev.on_cart_2(refold.event)', grace => '1 day');
SELECT refold.finish_rebuild('cart');
SELECT refold.skip_event('cart', 3, 'of no use');
CALL refold.rebuild_projection_concurrently('cart');
SELECT * FROM dev.cart;
SELECT state, started_by = session_user AS mine FROM refold.rebuild_jobs ORDER BY job_id DESC LIMIT 1;
RESET ROLE;

-- The dba, who owns nothing, starts and controls jobs; what changes the logic is the owner's.
CREATE FUNCTION public.on_cart_evil(event refold.event) RETURNS void LANGUAGE sql AS '';
SET ROLE job_privileges_dba;
CALL refold.rebuild_projection_concurrently('cart');
SELECT refold.start_rebuild('cart', 'public.on_cart_evil(refold.event)');
SELECT refold.skip_event('cart', 1, 'not mine');
RESET ROLE;
SELECT * FROM dev.cart;
SET ROLE job_privileges_dev;
CALL refold.rebuild_projection_concurrently('cart', 'dev.on_cart(refold.event)', grace => '1 day');
SET ROLE job_privileges_dba;
SELECT refold.pause_rebuild('cart');
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
SELECT refold.rollback_projection('cart');
SELECT refold.finish_rebuild('cart');
RESET ROLE;
SELECT handler FROM refold.projections;

-- Who watches sees the jobs, and nothing of the log.
SET ROLE job_privileges_monitor;
SELECT projection, state FROM refold.rebuild_jobs ORDER BY job_id DESC LIMIT 1;
SELECT count(*) FROM refold.rebuild_progress WHERE command <> 'concurrent rebuild';
SELECT * FROM refold.mirror_failure;
SELECT * FROM refold.skipped_event;
RESET ROLE;
CALL wait_until('SELECT bool_and(state IN (''done'', ''cancelled'')) FROM refold.rebuild_jobs');
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
SET client_min_messages = error; -- what goes with it
DROP EXTENSION refold CASCADE;
DROP OWNED BY job_privileges_stranger, job_privileges_dev, job_privileges_dba CASCADE;
DROP ROLE job_privileges_stranger, job_privileges_dev, job_privileges_dba, job_privileges_monitor;
