-- Rebuilding one row of a fold.
CREATE EXTENSION refold;
SET TimeZone = 'UTC';

CREATE TABLE cart (cart_id text PRIMARY KEY, items int NOT NULL);
CREATE FUNCTION cart_handler(cart cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  IF event.event_type = 'removed' THEN RETURN NULL; END IF;
  RETURN ROW(event.stream_id, coalesce(cart.items, 0) + (event.data ->> 'n')::int)::cart;
END $$;
CREATE TABLE sale (shop int, day date, total numeric NOT NULL, UNIQUE (total, shop, day), PRIMARY KEY (shop, day));
CREATE TYPE sale_key AS (shop int, day date);
CREATE FUNCTION sale_key(event refold.event) RETURNS sale_key LANGUAGE sql AS $$
  SELECT CASE WHEN event.data ? 'shop' THEN ROW((event.data ->> 'shop')::int, (event.data ->> 'day')::date)::sale_key END
$$;
CREATE FUNCTION sale_handler(sale sale, event refold.event) RETURNS sale LANGUAGE plpgsql AS $$
DECLARE key sale_key := sale_key(event);
BEGIN
  RETURN ROW(key.shop, key.day, coalesce(sale.total, 0) + (event.data ->> 'n')::int)::sale;
END $$;
SELECT generation FROM refold.create_projection('cart', 'cart_handler(cart, refold.event)');
SELECT generation FROM refold.create_projection('sale', 'sale_handler(sale, refold.event)', key => 'sale_key(refold.event)');
SELECT count(refold.append_event(format('cart-%s', n % 3), 'added',
         jsonb_build_object('n', n, 'shop', n % 2, 'day', date '2026-01-01' + n % 2)))
  FROM generate_series(1, 12) AS n;

-- What is wrong is found, and mended row by row.
UPDATE cart SET items = 0 WHERE cart_id = 'cart-0';
DELETE FROM cart WHERE cart_id = 'cart-1';
INSERT INTO cart VALUES ('cart-9', 9);
UPDATE sale SET total = -1 WHERE shop = 1;
SELECT * FROM refold.verify_projection('cart') ORDER BY key;
SELECT v.key, r.events_replayed, r.rows_inserted, r.rows_updated, r.rows_deleted, r.generation
  FROM refold.verify_projection('cart') AS v CROSS JOIN LATERAL refold.rebuild_projection('cart', key => v.key) AS r ORDER BY v.key;
SELECT v.key, r.events_replayed, r.rows_updated
  FROM refold.verify_projection('sale') AS v CROSS JOIN LATERAL refold.rebuild_projection('sale', key => v.key) AS r;
SELECT * FROM refold.verify_projection('cart');
SELECT * FROM refold.verify_projection('sale');
SELECT * FROM cart ORDER BY cart_id;
SELECT * FROM sale ORDER BY shop;

-- Nothing changes where nothing is wrong; a row that the handler removes stays away.
SELECT refold.append_event('cart-2', 'removed', '{}');
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('cart', key => '{"cart_id": "cart-2"}');
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('cart', key => '{"cart_id": "nobody"}');

-- In the transaction that appends.
BEGIN;
SELECT refold.append_event('cart-0', 'added', '{"n": 1}');
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('cart', key => '{"cart_id": "cart-0"}');
COMMIT;
SELECT * FROM refold.verify_projection('cart');

-- What it refuses.
SELECT refold.rebuild_projection('cart', key => '{}');
SELECT refold.rebuild_projection('cart', key => '{"cart_id": null}');
SELECT refold.rebuild_projection('cart', key => '{"cart": "cart-1"}');
SELECT refold.rebuild_projection('cart', key => '{"cart_id": "cart-1", "items": 1}');
SELECT refold.rebuild_projection('cart', key => '"cart-1"');
SELECT refold.rebuild_projection('sale', key => '{"shop": "one", "day": "2026-01-01"}');
SELECT refold.rebuild_projection('cart', 'cart_handler(cart, refold.event)', '{"cart_id": "cart-1"}');
SELECT refold.rebuild_projection('nobody', key => '{"cart_id": "cart-1"}');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT refold.rebuild_projection('cart', key => '{"cart_id": "cart-1"}');
ROLLBACK;
CREATE OR REPLACE FUNCTION cart_handler(cart cart, event refold.event) RETURNS cart LANGUAGE sql AS $$ SELECT cart $$;
SELECT refold.rebuild_projection('cart', key => '{"cart_id": "cart-1"}');
CREATE TABLE seen (event_type text PRIMARY KEY);
CREATE FUNCTION see(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO seen VALUES (event.event_type) ON CONFLICT DO NOTHING
$$;
SELECT generation FROM refold.create_projection('seen', 'see(refold.event)', tables => '{seen}');
SELECT refold.rebuild_projection('seen', key => '{"event_type": "added"}');
