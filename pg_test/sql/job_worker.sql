CREATE EXTENSION refold;
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/jobs.sql'
\i :include

CREATE TABLE cart (cart_id text PRIMARY KEY, n int);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  IF event.data = '"park"' THEN
    PERFORM pg_advisory_xact_lock_shared(1);
  END IF;
  RETURN ROW(event.stream_id, coalesce(state.n, 0) + 1);
END $$;
SELECT generation FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT count(refold.append_event('c-' || n % 10, 'added', CASE n WHEN 1800 THEN jsonb '"park"' ELSE '1' END)) FROM generate_series(1, 2000) AS n;
\set parked 'SELECT waits_for <> ''{}'' AND events_done > 0 FROM refold.rebuild_progress WHERE phase = ''building'''
\set nobody 'SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = ''refold rebuild'' AND datname = current_database()'
PREPARE start AS SELECT refold.start_rebuild('cart') > 0 AS started FROM pg_advisory_lock(1);
PREPARE last AS SELECT state, phase, error_sqlstate, error_message, error_position FROM refold.rebuild_jobs ORDER BY job_id DESC LIMIT 1;

-- Its batch cancelled: paused, with that reason, and no event is blamed.
EXECUTE start;
CALL wait_until(:'parked');
SELECT pg_cancel_backend(pid) FROM refold.rebuild_progress;
CALL wait_for_job('cart', 'paused');
EXECUTE last;
SELECT pg_advisory_unlock(1);
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'done');
SELECT * FROM refold.verify_projection('cart');

-- Terminated: the job is still running, by its row, and resume_rebuild gives it another worker, which goes on.
EXECUTE start;
CALL wait_until(:'parked');
SELECT events_done AS done, pid AS worker FROM refold.rebuild_progress \gset
SELECT pg_terminate_backend(:worker);
CALL wait_until(:'nobody');
EXECUTE last;
SELECT state FROM refold.projections;
SELECT refold.append_event('c-1', 'added', '1') IS NOT NULL AS appended;
SELECT refold.rebuild_projection('cart');
SELECT pg_advisory_unlock(1);
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'done');
SELECT run_started_events = :done AS went_on, worker FROM refold.rebuild_job ORDER BY job_id DESC LIMIT 1;
SELECT * FROM refold.verify_projection('cart');

-- Or it is cancelled without a worker. In place, what was emptied stays so until the next rebuild.
EXECUTE start;
CALL wait_until(:'parked');
SELECT pg_terminate_backend(pid) FROM refold.rebuild_progress;
CALL wait_until(:'nobody');
SELECT refold.cancel_rebuild('cart');
SELECT pg_advisory_unlock(1);
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
SELECT refold.start_rebuild('cart', in_place => true) > 0 AS started FROM pg_advisory_lock(1);
CALL wait_until(:'parked');
SELECT pg_terminate_backend(pid) FROM refold.rebuild_progress;
CALL wait_until(:'nobody');
SELECT count(*) AS carts, sum(n) < 1800 AS short FROM cart;
SELECT refold.append_event('c-1', 'added', '1') IS NOT NULL AS appended;
SELECT pg_advisory_unlock(1);
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'done');
SELECT sum(n) FROM cart;
SELECT state, lag FROM refold.projections;
SELECT * FROM refold.verify_projection('cart');

-- Two workers for one job: one of them works.
EXECUTE start;
CALL wait_until(:'parked');
SELECT refold.resume_rebuild('cart') = refold.resume_rebuild('cart') AS same;
CALL wait_until('SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = ''refold rebuild'' AND datname = current_database()');
SELECT pg_advisory_unlock(1);
CALL wait_for_job('cart', 'done');
EXECUTE last;
SELECT * FROM refold.verify_projection('cart');

-- The waiting caller is cancelled: the job goes on, or goes with it.
SET statement_timeout = '300ms';
SELECT pg_advisory_lock(1);
CALL refold.rebuild_projection_concurrently('cart');
SELECT state FROM refold.rebuild_jobs ORDER BY job_id DESC LIMIT 1;
RESET statement_timeout;
CALL wait_until(:'parked');
SELECT pg_advisory_unlock(1);
CALL wait_for_job('cart', 'done');
CREATE FUNCTION fold_cart_slow(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_sleep(0.01);
  RETURN ROW(event.stream_id, 0);
END $$;
SET statement_timeout = '300ms';
CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_slow(cart, refold.event)', on_cancel => 'cancel');
RESET statement_timeout;
EXECUTE last;
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
SELECT handler FROM refold.projections;
SELECT * FROM refold.verify_projection('cart');

-- The throttle: 1,000 events a second for 2,000 of them, from the next worker on.
SELECT current_database() AS database \gset
ALTER DATABASE :database SET refold.rebuild_max_rate = 1000;
SELECT clock_timestamp() AS began \gset
CALL refold.rebuild_projection_concurrently('cart');
SELECT clock_timestamp() - :'began' > '1.9 s' AS slow;
ALTER DATABASE :database SET refold.rebuild_max_rate = 1;
SELECT refold.start_rebuild('cart') > 0 AS started;
CALL wait_until('SELECT events_done > 0 FROM refold.rebuild_progress');
SELECT events_done < 30 AS few FROM refold.rebuild_progress;
SELECT refold.pause_rebuild('cart');
CALL wait_until(:'nobody');
ALTER DATABASE :database RESET refold.rebuild_max_rate;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'done');
SELECT * FROM refold.verify_projection('cart');
-- For all databases, and at once for a worker that is throttled. (No query shows when the postmaster, whose settings a new worker
-- gets, has read the file: hence the second.)
ALTER SYSTEM SET refold.rebuild_max_rate = 1;
SELECT pg_reload_conf();
SELECT pg_sleep(1);
SELECT refold.start_rebuild('cart') > 0 AS started;
CALL wait_until('SELECT events_done > 0 FROM refold.rebuild_progress');
SELECT events_done < 30 AS few FROM refold.rebuild_progress;
ALTER SYSTEM RESET refold.rebuild_max_rate;
SELECT pg_reload_conf();
CALL wait_for_job('cart', 'done');
SELECT * FROM refold.verify_projection('cart');
SET ROLE pg_monitor;
SET refold.rebuild_max_rate = 1;
SET refold.rebuild_batch_time = 1;
RESET ROLE;
