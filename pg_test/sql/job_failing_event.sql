CREATE EXTENSION refold;
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/jobs.sql'
\i :include

-- A new handler that cannot take one event of many.
CREATE TABLE cart (cart_id text PRIMARY KEY, n int, total int);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 1, NULL::int
$$;
CREATE FUNCTION fold_cart_2(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  IF event.data->>'n' IS NULL THEN
    RAISE 'an event without "n"' USING ERRCODE = 'CA001', DETAIL = concat('It has ', event.data), HINT = 'Take it as 0.';
  END IF;
  RETURN ROW(event.stream_id, coalesce(state.n, 0) + 1, coalesce(state.total, 0) + (event.data->>'n')::int);
END $$;
SELECT generation FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT count(refold.append_event('c-' || n % 10, 'added', CASE n WHEN 1234 THEN '{"no": 1}' ELSE jsonb_build_object('n', n) END))
  FROM generate_series(1, 3000) AS n;
CREATE TEMP TABLE before AS TABLE cart;

-- Paused at just this event; the live model is untouched, and appends go on.
CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_2(cart, refold.event)');
\x
SELECT state, phase, checkpoint, events, error_sqlstate, error_message, error_detail, error_position, error_stream_id, ended_at
  FROM refold.rebuild_jobs;
\x
SELECT name, state, generation, handler, rebuilding_pid FROM refold.projections;
TABLE refold.rebuild_progress;
SELECT count(*) FROM (TABLE cart EXCEPT TABLE before) AS changed;
SELECT refold.append_event('c-1', 'added', '{"n": 1}') IS NOT NULL AS appended;
SELECT n, total FROM cart WHERE cart_id = 'c-1';
SELECT * FROM refold.verify_projection('cart');

-- Again, without mending anything.
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'paused');
SELECT checkpoint, error_sqlstate, error_position FROM refold.rebuild_jobs;

-- The handler mended: the job goes on from there, and what it has built is verified.
CREATE OR REPLACE FUNCTION fold_cart_2(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 1, coalesce(state.total, 0) + coalesce((event.data->>'n')::int, 0)
$$;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'done');
TABLE jobs;
SELECT verify, run_started_events FROM refold.rebuild_job;
SELECT n, total FROM cart WHERE cart_id IN ('c-1', 'c-4') ORDER BY cart_id;
SELECT * FROM refold.verify_projection('cart');
SELECT name, state, generation, handler FROM refold.projections;

-- Mended so that earlier events would have given something else: not swapped in.
CREATE FUNCTION fold_cart_3(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  RETURN ROW(event.stream_id, coalesce(state.n, 0) + 1, 1000 / ((event.data->>'n')::int - 2000));
END $$;
CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_3(cart, refold.event)');
CREATE OR REPLACE FUNCTION fold_cart_3(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 100, 0
$$;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'paused');
SELECT state, phase, error_sqlstate, error_message, error_detail, error_position FROM refold.rebuild_jobs ORDER BY job_id DESC LIMIT 1;
SELECT refold.cancel_rebuild('cart');
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
SELECT handler, generation FROM refold.projections;

-- The handler replaced while the job is at work, and the job is not asked.
SELECT pg_advisory_lock(1);
CREATE FUNCTION fold_cart_4(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  IF (event.data->>'n')::int = 2500 THEN
    PERFORM pg_advisory_xact_lock_shared(1);
  END IF;
  RETURN ROW(event.stream_id, 1, 1);
END $$;
SELECT refold.start_rebuild('cart', 'fold_cart_4(cart, refold.event)') AS job \gset
CALL wait_until('SELECT waits_for <> ''{}'' AND events_done > 0 FROM refold.rebuild_progress WHERE phase = ''building''');
CREATE OR REPLACE FUNCTION fold_cart_4(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, 2, 2
$$;
SELECT pg_advisory_unlock(1);
CALL wait_for_job('cart', 'paused');
SELECT error_sqlstate, error_message, error_detail, error_position FROM refold.rebuild_jobs WHERE job_id = :job;
SELECT refold.cancel_rebuild('cart');

-- An event left out for good: the job, every later rebuild and verification pass it over.
CREATE FUNCTION fold_cart_5(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 1, coalesce(state.total, 0) + 1000 / ((event.data->>'n')::int - 2001)
$$;
CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_5(cart, refold.event)');
SELECT error_position AS bad FROM refold.rebuild_jobs WHERE state = 'paused' \gset
SELECT refold.skip_event('cart', :bad - 1, 'it is in the model already');
SELECT refold.skip_event('cart', :bad, 'nobody divides by zero');
SELECT "position" = :bad AS same, reason, skipped_by = session_user AS by_me, skipped_at <= clock_timestamp() AS before_now FROM refold.skipped_event;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'done');
SELECT n, total FROM cart WHERE cart_id = 'c-1';
SELECT * FROM refold.verify_projection('cart');
SELECT generation, events_replayed, rows_updated FROM refold.rebuild_projection('cart');
CALL refold.rebuild_projection_concurrently('cart', in_place => true);
SELECT n, total FROM cart WHERE cart_id = 'c-1';
SELECT * FROM refold.verify_projection('cart');
SELECT refold.skip_event('cart', :bad, 'another reason');
SELECT reason FROM refold.skipped_event;

-- In place: the tables hold the prefix before the event.
CREATE OR REPLACE FUNCTION fold_cart_5(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 1, coalesce(state.total, 0) + 1000 / ((event.data->>'n')::int - 1501)
$$;
CALL refold.rebuild_projection_concurrently('cart', in_place => true);
SELECT phase, checkpoint + 1 = error_position AS at_event, error_sqlstate, error_message, error_stream_id FROM refold.rebuild_jobs WHERE state = 'paused';
SELECT state, lag FROM refold.projections;
SELECT sum(n) FROM cart;
SELECT refold.append_event('c-1', 'added', '{"n": 1}') IS NOT NULL AS appended;
SELECT lag FROM refold.projections;
CREATE OR REPLACE FUNCTION fold_cart_5(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 1, coalesce(state.total, 0) + coalesce(1000 / nullif((event.data->>'n')::int - 1501, 0), 0)
$$;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'done');
SELECT state, lag FROM refold.projections;
SELECT sum(n) FROM cart;
SELECT * FROM refold.verify_projection('cart');
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');

-- Replaced while the job is at work in place, and resumed at once: what its worker has in hand is not committed any more, and the
-- model is built anew.
CREATE FUNCTION fold_cart_6(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  IF (event.data->>'n')::int = 2500 THEN
    PERFORM pg_advisory_xact_lock_shared(1);
  END IF;
  RETURN ROW(event.stream_id, 1, 1);
END $$;
SELECT refold.start_rebuild('cart', 'fold_cart_6(cart, refold.event)', in_place => true) AS job FROM pg_advisory_lock(1) \gset
CALL wait_until('SELECT waits_for <> ''{}'' AND events_done > 0 FROM refold.rebuild_progress WHERE phase = ''building''');
CREATE OR REPLACE FUNCTION fold_cart_6(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, 2, coalesce(state.total, 0) + 1
$$;
SELECT refold.resume_rebuild('cart') = :job AS same_job;
SELECT phase, checkpoint, events FROM refold.rebuild_jobs WHERE job_id = :job;
SELECT pg_advisory_unlock(1);
CALL wait_until('SELECT state <> ''running'' FROM refold.rebuild_jobs ORDER BY job_id DESC LIMIT 1');
SELECT state, error_message FROM refold.rebuild_jobs WHERE job_id = :job;
SELECT count(*), sum(total) FROM cart;
SELECT * FROM refold.verify_projection('cart');
