CREATE EXTENSION refold;
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/jobs.sql'
\i :include

-- A handler that waits at the event "park" for as long as this session holds the lock 1.
CREATE TABLE cart (cart_id text PRIMARY KEY, n int, items text);
CREATE INDEX cart_n ON cart (n);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  IF event.data->>0 = 'park' THEN
    PERFORM pg_advisory_xact_lock_shared(1);
  END IF;
  RETURN ROW(event.stream_id, coalesce(state.n, 0) + 1, concat_ws(',', state.items, event.data->>0));
END $$;
SELECT generation FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT count(refold.append_event('c-' || n % 3, 'added', jsonb_build_array(n))) FROM generate_series(1, 30) AS n;
SELECT position FROM refold.append_event('c-1', 'added', '["park"]');
SELECT count(*) AS extension_members FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass \gset before_

-- The worker begins when the transaction has committed.
BEGIN;
SELECT refold.start_rebuild('cart');
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'refold rebuild' AND xact_start IS NULL;
SELECT * FROM jobs;
SELECT name, state, generation, lag FROM refold.projections;
ROLLBACK;
TABLE jobs;
SELECT pg_advisory_lock(1);
BEGIN;
SELECT refold.start_rebuild('cart');
SELECT phase FROM jobs;
COMMIT;

-- While it builds.
CALL wait_until('SELECT waits_for <> ''{}'' FROM refold.rebuild_progress WHERE phase = ''building''');
TABLE jobs;
SELECT projection, pid = (SELECT pid FROM pg_stat_activity WHERE backend_type = 'refold rebuild') AS pid, command, phase,
    events_done, events_total, events_per_second, estimated_left, waits_for = ARRAY[pg_backend_pid()] AS for_me, gate_attempts,
    started_at <= clock_timestamp() AS started
  FROM refold.rebuild_progress;
SELECT name, state, generation, lag, rebuilding_pid = (SELECT pid FROM refold.rebuild_progress) AS pid FROM refold.projections;
SELECT job_id, started_by = session_user AS mine, started_at <= clock_timestamp() AS started, ended_at, grace_until, error_detail,
    mirror_failures FROM refold.rebuild_jobs;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'refold\_shadow%';
SELECT n, items FROM cart WHERE cart_id = 'c-1';
SELECT count(refold.append_event('c-' || n, 'added', '["later"]')) FROM generate_series(1, 4) AS n;

-- And when it is done.
SELECT pg_advisory_unlock(1);
CALL wait_for_job('cart', 'done');
TABLE jobs;
SELECT state, phase, ended_at >= started_at AS ended FROM refold.rebuild_jobs;
SELECT name, state, generation, lag, rebuilding_pid, rebuilt_events FROM refold.projections;
TABLE refold.rebuild_progress;
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
CHECKPOINT;
SELECT lost_files();
SELECT count(*) = :before_extension_members AS same_members FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass;
SELECT cart_id, n FROM cart ORDER BY cart_id;
SELECT * FROM refold.verify_projection('cart');

-- The procedure returns when the new model is live.
CREATE FUNCTION fold_cart_2(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 10, NULL
$$;
CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_2(cart, refold.event)');
SELECT * FROM cart ORDER BY cart_id;
SELECT handler, generation FROM refold.projections;
CALL refold.rebuild_projection_concurrently('cart', verify => true);
CALL refold.rebuild_projection_concurrently('cart', 'fold_cart(cart, refold.event)', in_place => true, on_cancel => 'cancel');
CALL wait_for_job('cart', 'done');
SELECT cart_id, n FROM cart ORDER BY cart_id;
SELECT handler, state, generation, lag FROM refold.projections;
SELECT * FROM refold.verify_projection('cart');
SELECT refold.append_event('c-1', 'added', '["last"]') IS NOT NULL AS appended;
SELECT n FROM cart WHERE cart_id = 'c-1';
TABLE jobs;

-- In place, readers see a prefix.
SELECT position FROM refold.append_event('c-0', 'added', '["park"]');
SELECT pg_advisory_lock(1);
SELECT refold.start_rebuild('cart', in_place => true);
CALL wait_until('SELECT waits_for <> ''{}'' FROM refold.rebuild_progress WHERE phase = ''building''');
SELECT count(refold.append_event('new', 'added', '["skipped"]')) FROM generate_series(1, 2);
SELECT name, state, lag FROM refold.projections;
SELECT command, phase, events_done FROM refold.rebuild_progress;
TABLE cart;
SELECT pg_advisory_unlock(1);
CALL wait_for_job('cart', 'done');
SELECT name, state, lag, generation FROM refold.projections;
SELECT cart_id, n FROM cart ORDER BY cart_id;
SELECT * FROM refold.verify_projection('cart');
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
