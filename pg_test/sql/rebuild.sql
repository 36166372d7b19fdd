CREATE EXTENSION refold;
CREATE TABLE cart (cart_id text PRIMARY KEY, items int);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.items, 0) + (event.data)::int
$$;

-- An empty log.
SELECT projection, generation, events_replayed, events_under_gate, rows_inserted, rows_updated, rows_deleted, gate_attempts,
    gate_held > '0' AND gate_held < duration AS held
  FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)', event_types => '{added}');
SELECT projection, generation, events_replayed, events_under_gate, rows_inserted, rows_updated, rows_deleted, gate_attempts
  FROM refold.rebuild_projection('cart');
SELECT refold.append_event('c-' || n % 3, 'added', to_jsonb(n)) FROM generate_series(1, 6) AS n;
SELECT * FROM cart ORDER BY cart_id;

-- A new handler in the same call.
CREATE FUNCTION fold_cart_tenfold(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.items, 0) + 10 * (event.data)::int
$$;
SELECT projection, generation, events_replayed, events_under_gate, rows_inserted, rows_updated, rows_deleted, gate_attempts
  FROM refold.rebuild_projection('cart', 'fold_cart_tenfold(cart, refold.event)');
SELECT refold.append_event('c-1', 'added', '1');
SELECT * FROM cart ORDER BY cart_id;
SELECT name, kind, state, generation, handler, tables, event_types, key, serial, owner, lag, rebuilt_events, rebuilding_pid
  FROM refold.projections;
SELECT * FROM refold.verify_projection('cart');

-- Changed by CREATE OR REPLACE FUNCTION and rebuilt in one transaction, rolled back first.
BEGIN;
CREATE OR REPLACE FUNCTION fold_cart_tenfold(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.items, 0) + 100 * (event.data)::int
$$;
SELECT state FROM refold.projections;
SELECT generation, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('cart');
SELECT state FROM refold.projections;
SELECT * FROM cart ORDER BY cart_id;
ROLLBACK;
SELECT state, generation FROM refold.projections;
SELECT refold.append_event('c-2', 'added', '1');
SELECT * FROM cart ORDER BY cart_id;
SELECT * FROM refold.verify_projection('cart');
BEGIN;
CREATE OR REPLACE FUNCTION fold_cart_tenfold(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.items, 0) + 100 * (event.data)::int
$$;
SELECT generation, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('cart');
COMMIT;
SELECT refold.append_event('c-2', 'added', '2');
SELECT * FROM cart ORDER BY cart_id;
SELECT state, generation FROM refold.projections;
SELECT * FROM refold.verify_projection('cart');

-- Replaced without a rebuild it is stale, and verify tells the difference.
CREATE OR REPLACE FUNCTION fold_cart_tenfold(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.items, 0) + (event.data)::int
$$;
SELECT state FROM refold.projections;
SELECT count(*) FROM refold.verify_projection('cart');
SELECT generation, rows_updated FROM refold.rebuild_projection('cart');
SELECT state FROM refold.projections;
SELECT * FROM refold.verify_projection('cart');

-- Rows corrupted by hand are healed.
INSERT INTO cart VALUES ('mallory', 1), ('eve', 2);
DELETE FROM cart WHERE cart_id = 'c-0';
UPDATE cart SET items = NULL WHERE cart_id = 'c-1';
SELECT generation, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('cart');
SELECT * FROM cart ORDER BY cart_id;

-- Twice in a transaction, with events of its own between; two projections in a transaction.
CREATE TABLE total (id int PRIMARY KEY CHECK (id = 1), n bigint);
CREATE FUNCTION on_total(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO total AS t SELECT 1, sum((e.data)::int) FROM unnest(events) AS e ON CONFLICT (id) DO UPDATE SET n = t.n + EXCLUDED.n;
$$;
BEGIN;
SELECT refold.lock_gate();
SELECT refold.append_event('c-5', 'added', '5');
SELECT generation, events_replayed, rows_inserted, rows_updated, rows_deleted
  FROM refold.create_projection('total', 'on_total(refold.event[])', '{total}', '{added}');
SELECT refold.append_event('c-5', 'added', '6');
UPDATE cart SET items = 0;
SELECT generation, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('cart');
SELECT refold.append_event('c-5', 'added', '7');
SELECT generation, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('cart');
SELECT generation, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('total');
COMMIT;
SELECT * FROM cart ORDER BY cart_id;
SELECT n, n = (SELECT sum((data)::int) FROM refold.event) AS right FROM total;
SELECT * FROM refold.verify_projection('cart');
SELECT * FROM refold.verify_projection('total');

-- A savepoint takes a rebuild back, and appends go on in the same transaction.
BEGIN;
UPDATE cart SET items = 0 WHERE cart_id = 'c-5';
SAVEPOINT before;
SELECT generation, rows_updated FROM refold.rebuild_projection('cart');
ROLLBACK TO before;
SELECT items FROM cart WHERE cart_id = 'c-5';
SELECT refold.append_event('c-5', 'added', '8');
SELECT items FROM cart WHERE cart_id = 'c-5';
ROLLBACK;
SELECT name, generation FROM refold.projections;
SELECT refold.append_event('c-6', 'added', '1');

-- Dropped and created again; the tables stay.
SELECT refold.drop_projection('cart');
SELECT refold.append_event('c-6', 'added', '1');
SELECT * FROM cart WHERE cart_id = 'c-6';
SELECT refold.create_projection('cart', 'fold_cart(cart, refold.event)');
TRUNCATE cart;
SELECT generation, rows_inserted FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT * FROM cart WHERE cart_id = 'c-6';
SELECT refold.drop_projection('cart');
SELECT refold.drop_projection('total');
SELECT * FROM refold.projections;

-- Table, handler and projection made in one transaction.
BEGIN;
CREATE TABLE made (id text PRIMARY KEY, n int);
CREATE FUNCTION fold_made(state made, event refold.event) RETURNS made LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 1
$$;
SELECT generation, rows_inserted FROM refold.create_projection('made', 'fold_made(made, refold.event)');
SELECT refold.append_event('c-7', 'added', '1');
COMMIT;
SELECT * FROM made ORDER BY id;
SELECT * FROM refold.verify_projection('made');

-- Nothing is left of all the copies.
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'refold%';
SELECT * FROM refold.rebuild_progress;
