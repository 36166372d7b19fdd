CREATE EXTENSION refold;
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/jobs.sql'
\i :include

CREATE TABLE cart (cart_id text PRIMARY KEY, n int, note text);
CREATE TABLE seen (event_position bigint PRIMARY KEY, note text);
CREATE FUNCTION on_cart(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF event.event_type = 'bad for old' THEN
    RAISE 'the old handler does not take this';
  END IF;
  INSERT INTO cart AS c VALUES (event.stream_id, 1, 'old') ON CONFLICT (cart_id) DO UPDATE SET n = c.n + 1;
  INSERT INTO seen VALUES (event.position, 'old');
END $$;
CREATE FUNCTION on_cart_2(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO cart AS c VALUES (event.stream_id, 10, 'new') ON CONFLICT (cart_id) DO UPDATE SET n = c.n + 10;
  INSERT INTO seen VALUES (event.position, 'new');
END $$;
SELECT generation FROM refold.create_projection('cart', 'on_cart(refold.event)', '{cart, seen}');
SELECT count(refold.append_event('c-' || n % 2, 'added', '1')) FROM generate_series(1, 4) AS n;
CREATE VIEW model AS SELECT cart_id, n, note, (SELECT count(*) FROM seen AS s WHERE s.note = c.note) AS seen FROM cart AS c ORDER BY cart_id;

-- The caller returns when the new model is live; the old one is kept up.
CALL refold.rebuild_projection_concurrently('cart', 'on_cart_2(refold.event)', grace => '1 day');
TABLE model;
SELECT state, phase, grace_until - started_at > '1 day' AS grace FROM refold.rebuild_jobs;
SELECT command, phase, waits_for FROM refold.rebuild_progress;
SELECT state, generation, handler FROM refold.projections;
SELECT refold.append_event('c-1', 'added', '1') IS NOT NULL AS appended;
TABLE model;
SELECT * FROM refold.verify_projection('cart');
SELECT cart_id, n, note FROM refold_shadow_1.cart ORDER BY cart_id;
-- No other rebuild meanwhile, and no cancel.
SELECT refold.start_rebuild('cart');
SELECT refold.rebuild_projection('cart');
SELECT refold.cancel_rebuild('cart');
SELECT refold.drop_projection('cart');

-- Back: at once, and with what was appended meanwhile.
BEGIN;
SELECT refold.rollback_projection('cart');
TABLE model;
ROLLBACK;
TABLE model;
SELECT refold.append_event('c-2', 'added', '1') IS NOT NULL AS appended;
SELECT refold.rollback_projection('cart');
TABLE model;
SELECT * FROM refold.verify_projection('cart');
SELECT state, generation, handler FROM refold.projections;
SELECT state, phase FROM refold.rebuild_jobs;
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
SELECT refold.append_event('c-2', 'added', '1') IS NOT NULL AS appended;
TABLE model;
SELECT * FROM refold.verify_projection('cart');
SELECT refold.rollback_projection('cart');

-- Or finished.
CALL refold.rebuild_projection_concurrently('cart', 'on_cart_2(refold.event)', grace => '1 day');
SELECT refold.append_event('c-2', 'added', '1') IS NOT NULL AS appended;
BEGIN;
SELECT refold.finish_rebuild('cart');
ROLLBACK;
SELECT refold.append_event('c-2', 'added', '1') IS NOT NULL AS appended;
SELECT refold.finish_rebuild('cart');
SELECT state, phase FROM refold.rebuild_jobs WHERE state <> 'cancelled';
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
SELECT refold.append_event('c-2', 'added', '1') IS NOT NULL AS appended;
TABLE model;
SELECT * FROM refold.verify_projection('cart');
SELECT state, generation, handler FROM refold.projections;

-- Paused in the grace period, the old model is kept up all the same.
CALL refold.rebuild_projection_concurrently('cart', 'on_cart(refold.event)', grace => '1 day');
SELECT refold.pause_rebuild('cart');
SELECT refold.append_event('c-2', 'added', '1') IS NOT NULL AS appended;
SELECT refold.rollback_projection('cart');
TABLE model;
SELECT * FROM refold.verify_projection('cart');
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');

-- It ends by itself.
CALL refold.rebuild_projection_concurrently('cart', 'on_cart(refold.event)', grace => '100 ms');
CALL wait_for_job('cart', 'done');
SELECT handler, generation FROM refold.projections;
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
TABLE model;
SELECT * FROM refold.verify_projection('cart');

-- An event that the old handler cannot take fails no append, and the way back is gone.
CALL refold.rebuild_projection_concurrently('cart', 'on_cart_2(refold.event)', grace => '1 day');
SELECT refold.pause_rebuild('cart');
SELECT refold.append_event('c-3', 'bad for old', '1') IS NOT NULL AS appended;
SELECT sqlstate, message, stream_id, event_type, detail FROM refold.mirror_failure;
SELECT mirror_failures FROM refold.rebuild_jobs WHERE state = 'paused';
SELECT refold.rollback_projection('cart');
SELECT refold.resume_rebuild('cart') > 0 AS resumed;
CALL wait_for_job('cart', 'done');
SELECT handler FROM refold.projections;
SELECT * FROM refold.verify_projection('cart');
TABLE model;

-- The old handler dropped meanwhile: recorded likewise.
CREATE FUNCTION on_cart_3(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO cart AS c VALUES (event.stream_id, 100, 'third') ON CONFLICT (cart_id) DO UPDATE SET n = c.n + 100
$$;
CALL refold.rebuild_projection_concurrently('cart', 'on_cart_3(refold.event)', grace => '1 day');
SELECT refold.pause_rebuild('cart');
DROP FUNCTION on_cart_2(refold.event);
SELECT refold.append_event('c-3', 'added', '1') IS NOT NULL AS appended;
SELECT count(*) > 0 AS recorded FROM refold.mirror_failure;
SELECT refold.finish_rebuild('cart');
CALL wait_until('SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = ''refold rebuild'' AND datname = current_database()');
SELECT * FROM refold.verify_projection('cart');
TABLE model;
