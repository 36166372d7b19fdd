-- Several workers share the replay of a large fold.
CREATE EXTENSION refold;
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/jobs.sql'
\i :include

CREATE TABLE cart (cart_id text PRIMARY KEY, n int NOT NULL, last_position bigint NOT NULL);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  IF event.data ? 'park' THEN
    PERFORM pg_advisory_xact_lock_shared(1);
  END IF;
  IF state.last_position >= event.position THEN
    RAISE EXCEPTION 'out of order';
  END IF;
  RETURN ROW(event.stream_id, coalesce(state.n, 0) + 1, event.position)::cart;
END $$;
-- A key of two columns, and rows that come and go.
CREATE TABLE pair (a int, b text, n int NOT NULL, PRIMARY KEY (a, b));
CREATE TYPE pair_key AS (a int, b text);
CREATE FUNCTION pair_key(event refold.event) RETURNS pair_key LANGUAGE sql AS $$
  SELECT CASE WHEN event.stream_version % 5 > 0 THEN ROW(event.stream_version % 7, event.stream_id)::pair_key END
$$;
CREATE FUNCTION fold_pair(state pair, event refold.event) RETURNS pair LANGUAGE plpgsql AS $$
BEGIN
  IF state.n = 3 THEN RETURN NULL; END IF;
  RETURN ROW((pair_key(event)).a, (pair_key(event)).b, coalesce(state.n, 0) + 1)::pair;
END $$;
SELECT generation FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT generation FROM refold.create_projection('pair', 'fold_pair(pair, refold.event)', key => 'pair_key(refold.event)');
SELECT count(refold.append_event('c-' || n % 20, 'added', CASE WHEN n > 980 THEN jsonb '{"park": 1}' ELSE '{}' END)) FROM generate_series(1, 1000) AS n;
-- Positions that were drawn in vain count as well: there is enough to share.
SELECT setval('refold.event_position_seq', 300000) > 0 AS drawn;
SELECT count(refold.append_event('c-' || n % 20, 'added', '{}')) FROM generate_series(1, 300) AS n;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET refold.rebuild_workers = 3', current_database()); END $$;

-- Each worker has a part of its own.
SELECT refold.start_rebuild('cart') > 0 AS started FROM pg_advisory_lock(1);
CALL wait_until('SELECT count(*) = 3 FROM pg_locks WHERE locktype = ''advisory'' AND NOT granted');
SELECT part, parts, checkpoint < up_to AS at_work FROM refold.rebuild_part ORDER BY part;
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'refold rebuild' AND datname = current_database();

-- One of them is killed; the job's own worker does its part as well.
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity AS a
 WHERE a.backend_type = 'refold rebuild' AND a.datname = current_database()
   AND a.pid <> (SELECT pid FROM refold.rebuild_progress) LIMIT 1;
SELECT pg_advisory_unlock(1);
CALL wait_for_job('cart', 'done');
SELECT state, phase, events FROM refold.rebuild_jobs;
SELECT count(*) FROM refold.rebuild_part;
SELECT * FROM refold.verify_projection('cart');

-- Paused, then resumed; appends go on.
SELECT refold.start_rebuild('cart') > 0 AS started FROM pg_advisory_lock(1);
CALL wait_until('SELECT count(*) = 3 FROM pg_locks WHERE locktype = ''advisory'' AND NOT granted');
SELECT refold.pause_rebuild('cart');
SELECT refold.append_event('c-1', 'added', '{}') IS NOT NULL AS appended;
SELECT pg_advisory_unlock(1);
CALL wait_until('SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = ''refold rebuild'' AND datname = current_database()');
SELECT state, count(p.part) FROM refold.rebuild_job AS j LEFT JOIN refold.rebuild_part AS p USING (job_id) WHERE j.state = 'paused' GROUP BY state;
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'done');
SELECT * FROM refold.verify_projection('cart');

-- Cancelled: nothing is left.
SELECT refold.start_rebuild('cart') > 0 AS started FROM pg_advisory_lock(1);
CALL wait_until('SELECT count(*) = 3 FROM pg_locks WHERE locktype = ''advisory'' AND NOT granted');
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'refold rebuild' AND datname = current_database();
SELECT refold.cancel_rebuild('cart');
SELECT pg_advisory_unlock(1);
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
SELECT count(*) FROM refold.rebuild_part;

-- In place one worker does it all: readers see a prefix of the log.
SELECT refold.start_rebuild('cart', in_place => true) > 0 AS started FROM pg_advisory_lock(1);
CALL wait_until('SELECT count(*) > 0 FROM pg_locks WHERE locktype = ''advisory'' AND NOT granted');
SELECT count(*) FROM refold.rebuild_part;
SELECT j.checkpoint > 0 AS has_begun,
       (SELECT sum(c.n) FROM cart AS c) = (SELECT count(*) FROM refold.event AS e WHERE e.position <= j.checkpoint) AS is_prefix
  FROM refold.rebuild_job AS j WHERE j.state = 'running';
SELECT pg_advisory_unlock(1);
CALL wait_for_job('cart', 'done');
SELECT * FROM refold.verify_projection('cart');

-- By a key of two columns.
CALL refold.rebuild_projection_concurrently('pair');
SELECT * FROM refold.verify_projection('pair');
CALL refold.rebuild_projection_concurrently('pair', in_place => true);
SELECT * FROM refold.verify_projection('pair');

-- An event that fails in one part: paused there.
SELECT position AS bad FROM refold.event WHERE stream_id = 'c-7' ORDER BY position OFFSET 5 LIMIT 1 \gset
CREATE TABLE bad AS SELECT :bad AS position;
CREATE FUNCTION fold_bad(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  IF event.position = (SELECT b.position FROM bad AS b) THEN
    RAISE EXCEPTION 'a bad event';
  END IF;
  RETURN ROW(event.stream_id, coalesce(state.n, 0) + 1, event.position)::cart;
END $$;
CALL refold.rebuild_projection_concurrently('cart', 'fold_bad(cart, refold.event)');
SELECT state, error_message, error_position = :bad AS there, error_stream_id FROM refold.rebuild_jobs ORDER BY job_id DESC LIMIT 1;
SELECT refold.skip_event('cart', :bad, 'it is bad');
DELETE FROM bad;
SELECT refold.skip_event('cart', :bad - 20, 'it may have been replayed');
SELECT refold.cancel_rebuild('cart');
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');

-- A database's settings are not the workers'.
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = ''repeatable read''', current_database());
  EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
  EXECUTE format('ALTER DATABASE %I SET lock_timeout = 1', current_database());
  EXECUTE format('ALTER DATABASE %I SET statement_timeout = 1', current_database());
END $$;
CALL refold.rebuild_projection_concurrently('cart', 'fold_cart(cart, refold.event)');
SELECT state, phase FROM refold.rebuild_jobs ORDER BY job_id DESC LIMIT 1;
