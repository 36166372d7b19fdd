-- What appends keep up beside the live table has columns of its own, and another row type. Its rows are loaded and written
-- without statements where the columns are the live ones, name by name; else by statements, which know them by their names.
CREATE EXTENSION refold;
CREATE EXTENSION amcheck;
SET client_min_messages = warning;
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE TYPE pair AS (l text, r text);
CREATE TABLE cart (gone_1 float8, id text PRIMARY KEY, gone_2 text, a int, b int, c positive, note varchar(12), long text, parts pair, list text[]);
INSERT INTO cart (id) VALUES ('old');
ALTER TABLE cart DROP gone_1, DROP gone_2, ADD late int NOT NULL DEFAULT 7, ADD later text DEFAULT repeat('later ', 4);
DELETE FROM cart;
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  state.id := event.stream_id;
  state.a := coalesce(state.a, 0) + 1;
  state.b := coalesce(state.b, 0) + 100;
  state.c := coalesce(state.c, 0) + 1;
  state.note := 'note ' || state.c;
  state.long := coalesce(event.data->>'long', state.long);
  state.parts := ROW(state.note, state.long)::pair;
  state.list := state.list || state.note::text;
  state.late := coalesce(state.late, 0) + 1;
  RETURN CASE WHEN event.event_type <> 'emptied' THEN state END;
END $$;
CREATE FUNCTION fold_cart_2(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  state := fold_cart(state, event);
  IF state.id IS NOT NULL THEN
    state.b := state.b + 100;
    state.later := concat(state.later, '+');
  END IF;
  RETURN state;
END $$;
SELECT generation FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
CREATE VIEW short AS SELECT id, a, b, c, note, md5(long) AS long, md5((parts).r) = md5(long) AS parts, list, late, later FROM cart ORDER BY id;
SELECT count(refold.append_event('c-' || i % 3, 'added', '{}')) FROM generate_series(1, 6) AS i;

-- In the grace period appends keep up the old model, which comes back.
CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_2(cart, refold.event)', grace => '1 day');
SELECT count(refold.append_event('c-' || i % 4, 'added', CASE WHEN i % 2 = 0 THEN
    (SELECT jsonb_build_object('long', string_agg(md5((i + j)::text), '')) FROM generate_series(1, 500) AS j) ELSE '{}' END))
  FROM generate_series(1, 11) AS i;
SELECT refold.append_event('c-1', 'emptied', '{}') IS NOT NULL AS appended;
BEGIN;
SAVEPOINT s;
SELECT refold.append_event('c-2', 'added', '{}') IS NOT NULL AS appended;
ROLLBACK TO s;
SELECT refold.append_event('c-2', 'added', '{}') IS NOT NULL AS appended;
COMMIT;
TABLE refold.mirror_failure;
TABLE short;
SELECT key FROM refold.verify_projection('cart');
SELECT refold.rollback_projection('cart');
TABLE short;
SELECT key FROM refold.verify_projection('cart');
SELECT * FROM verify_heapam('cart', check_toast => true);
SELECT bt_index_check('cart_pkey', true) IS NOT NULL AS checked;

-- Two columns of the live table exchange their names, and have their own again: what was kept up meanwhile is right.
CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_2(cart, refold.event)', grace => '1 day');
CREATE PROCEDURE exchange_names() LANGUAGE sql AS $$
  ALTER TABLE cart RENAME a TO x;
  ALTER TABLE cart RENAME b TO a;
  ALTER TABLE cart RENAME x TO b;
$$;
CALL exchange_names();
SELECT refold.append_event('c-2', 'added', '{}') IS NOT NULL AS appended;
CALL exchange_names();
SELECT refold.append_event('c-2', 'added', '{}') IS NOT NULL AS appended;
SELECT * FROM refold.mirror_failure;
SELECT refold.rollback_projection('cart');
SELECT id, a, b FROM cart ORDER BY id;
SELECT key FROM refold.verify_projection('cart');

-- A column that only the live table has: the old model cannot take it, and the append goes on.
CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_2(cart, refold.event)', grace => '1 day');
SELECT refold.pause_rebuild('cart');
ALTER TABLE cart ADD COLUMN latest int;
SELECT refold.append_event('c-2', 'added', '{}') IS NOT NULL AS appended;
SELECT sqlstate, message FROM refold.mirror_failure;
SELECT key FROM refold.verify_projection('cart');
