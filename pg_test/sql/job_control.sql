CREATE EXTENSION refold;
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/jobs.sql'
\i :include

-- A handler that waits at "park" for as long as this session holds the lock 1; the event is late enough in the log that some
-- batches come before it.
CREATE TABLE cart (cart_id text PRIMARY KEY, n int, note text);
CREATE INDEX cart_note ON cart (note);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  IF event.data->>0 = 'park' THEN
    PERFORM pg_advisory_xact_lock_shared(1);
  END IF;
  RETURN ROW(event.stream_id, coalesce(state.n, 0) + 1, repeat(md5(event.stream_id), 5));
END $$;
SELECT generation FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT count(refold.append_event('c-' || n % 50, 'added', CASE n WHEN 1800 THEN jsonb '["park"]' ELSE '[1]' END)) FROM generate_series(1, 2000) AS n;
SELECT count(*) AS classes, (SELECT count(*) FROM pg_depend) AS depends, (SELECT count(*) FROM pg_type) AS types,
    (SELECT count(*) FROM pg_namespace) AS schemas, (SELECT count(*) FROM pg_constraint) AS constraints,
    (SELECT count(*) FROM pg_attribute) AS columns FROM pg_class \gset before_
\set parked 'SELECT waits_for <> ''{}'' AND events_done > 0 FROM refold.rebuild_progress WHERE phase = ''building'''

-- Paused at a batch: what that has done is undone, what was committed stays.
SELECT pg_advisory_lock(1);
SELECT refold.start_rebuild('cart') AS job \gset
CALL wait_until(:'parked');
SELECT checkpoint AS checkpoint, events AS events FROM refold.rebuild_jobs WHERE job_id = :job \gset
SELECT refold.pause_rebuild('cart');
SELECT state, phase, checkpoint = :checkpoint AS same, error_message FROM refold.rebuild_jobs;
SELECT state, rebuilding_pid FROM refold.projections;
SELECT refold.pause_rebuild('cart');
SELECT pg_advisory_unlock(1);
CALL wait_until('SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = ''refold rebuild'' AND datname = current_database()');
SELECT state, phase, checkpoint = :checkpoint AS same, events = :events AS same_events, error_message FROM refold.rebuild_jobs;
SELECT refold.append_event('c-1', 'added', '[2]') IS NOT NULL AS appended;
SELECT n FROM cart WHERE cart_id = 'c-1';
-- And resumed.
SELECT refold.resume_rebuild('cart') = :job AS same_job;
CALL wait_for_job('cart', 'done');
SELECT state, events, checkpoint FROM refold.rebuild_jobs;
SELECT run_started_events = :events AS went_on FROM refold.rebuild_job;
SELECT * FROM refold.verify_projection('cart');

-- Paused and resumed in one transaction, or rolled back: nothing, or another worker, has happened.
SELECT pg_advisory_lock(1);
SELECT refold.start_rebuild('cart') AS job \gset
CALL wait_until(:'parked');
BEGIN;
SELECT refold.pause_rebuild('cart');
ROLLBACK;
SELECT state FROM refold.rebuild_jobs WHERE job_id = :job;
BEGIN;
SELECT refold.pause_rebuild('cart');
SELECT refold.resume_rebuild('cart') = :job AS same_job;
COMMIT;
SELECT pg_advisory_unlock(1);
CALL wait_for_job('cart', 'done');
SELECT * FROM refold.verify_projection('cart');

-- Cancelled: nothing is left.
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
SELECT pg_advisory_lock(1);
SELECT refold.start_rebuild('cart') AS job \gset
CALL wait_until(:'parked');
SELECT refold.pause_rebuild('cart');
SELECT pg_advisory_unlock(1);
BEGIN;
SELECT refold.cancel_rebuild('cart');
ROLLBACK;
SELECT state, phase FROM refold.rebuild_jobs WHERE job_id = :job;
SELECT refold.cancel_rebuild('cart');
SELECT state, phase, ended_at >= started_at AS ended FROM refold.rebuild_jobs WHERE job_id = :job;
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
SELECT count(*) - :before_classes AS classes, (SELECT count(*) FROM pg_depend) - :before_depends AS depends,
    (SELECT count(*) FROM pg_type) - :before_types AS types, (SELECT count(*) FROM pg_namespace) - :before_schemas AS schemas,
    (SELECT count(*) FROM pg_constraint) - :before_constraints AS constraints,
    (SELECT count(*) FROM pg_attribute) - :before_columns AS columns FROM pg_class;
CHECKPOINT;
SELECT lost_files();
SELECT state, generation FROM refold.projections;
SELECT refold.append_event('c-1', 'added', '[3]') IS NOT NULL AS appended;
SELECT * FROM refold.verify_projection('cart');
SELECT generation, rows_updated FROM refold.rebuild_projection('cart');

-- In place, a cancelled job leaves the model incomplete; the atomic rebuild mends it.
SELECT pg_advisory_lock(1);
SELECT refold.start_rebuild('cart', in_place => true) AS job \gset
CALL wait_until(:'parked');
SELECT state, lag > 0 AS lags FROM refold.projections;
SELECT refold.pause_rebuild('cart');
SELECT state, lag > 0 AS lags FROM refold.projections;
SELECT pg_advisory_unlock(1);
SELECT refold.cancel_rebuild('cart');
SELECT state, generation, lag = (SELECT max(position) FROM refold.event) AS all_of_it FROM refold.projections;
SELECT refold.append_event('c-1', 'added', '[4]') IS NOT NULL AS appended;
SELECT count(*) < 2002 AS prefix FROM cart;
SELECT generation, events_replayed FROM refold.rebuild_projection('cart');
SELECT state, generation, lag FROM refold.projections;
SELECT * FROM refold.verify_projection('cart');
SELECT refold.append_event('c-1', 'added', '[5]') IS NOT NULL AS appended;
SELECT * FROM refold.verify_projection('cart');
SELECT sum(n) FROM cart;

-- Incomplete, and a concurrent rebuild is asked for: it is done in place.
SELECT pg_advisory_lock(1);
SELECT refold.start_rebuild('cart', in_place => true) AS job \gset
CALL wait_until(:'parked');
SELECT refold.pause_rebuild('cart');
SELECT pg_advisory_unlock(1);
SELECT refold.cancel_rebuild('cart');
SELECT refold.verify_projection('cart') IS NOT NULL AS differs LIMIT 1;
CALL refold.rebuild_projection_concurrently('cart');
SELECT kind, state FROM refold.rebuild_jobs ORDER BY job_id DESC LIMIT 1;
SELECT state, lag FROM refold.projections;
SELECT * FROM refold.verify_projection('cart');
SELECT sum(n) FROM cart;
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');

-- A whole projection, its job and the extension, dropped.
SELECT pg_advisory_lock(1);
SELECT refold.start_rebuild('cart') AS job \gset
CALL wait_until(:'parked');
SELECT refold.pause_rebuild('cart');
SELECT pg_advisory_unlock(1);
SELECT refold.cancel_rebuild('cart');
SELECT refold.drop_projection('cart');
SELECT count(*) FROM refold.rebuild_jobs;
SELECT generation FROM refold.create_projection('again', 'fold_cart(cart, refold.event)');
TRUNCATE cart;
SELECT generation FROM refold.create_projection('again', 'fold_cart(cart, refold.event)');
SELECT pg_advisory_lock(1);
SELECT refold.start_rebuild('again') AS job \gset
CALL wait_until(:'parked');
SELECT refold.pause_rebuild('again');
SELECT pg_advisory_unlock(1);
CALL wait_until('SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = ''refold rebuild'' AND datname = current_database()');
DROP VIEW jobs, leftovers;
SET client_min_messages = error; -- what goes with it
DROP EXTENSION refold CASCADE;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'refold%';
SELECT count(*) FROM cart;
