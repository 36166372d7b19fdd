CREATE EXTENSION refold;
CREATE EXTENSION plpython3u;

-- Two tables with a foreign key between them, parents first; the handler writes what it likes.
CREATE TABLE customer (customer_id text PRIMARY KEY, orders int NOT NULL DEFAULT 0, note text DEFAULT 'new');
CREATE TABLE orders (order_id text PRIMARY KEY, customer_id text NOT NULL REFERENCES customer, total numeric(10,2) NOT NULL,
  placed_at timestamptz NOT NULL, taxed numeric GENERATED ALWAYS AS (total * 1.2) STORED);
CREATE FUNCTION on_order(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  CASE event.event_type
    WHEN 'registered' THEN
      INSERT INTO customer (customer_id) VALUES (event.stream_id) ON CONFLICT (customer_id) DO NOTHING;
    WHEN 'ordered' THEN
      INSERT INTO orders (order_id, customer_id, total, placed_at)
        VALUES (event.data ->> 'order', event.stream_id, (event.data ->> 'total')::numeric, event.recorded_at);
      UPDATE customer AS c SET orders = c.orders + 1 WHERE c.customer_id = event.stream_id;
    WHEN 'forgotten' THEN
      DELETE FROM orders AS o WHERE o.customer_id = event.stream_id;
      DELETE FROM customer AS c WHERE c.customer_id = event.stream_id;
    ELSE
      NULL;
  END CASE;
END
$$;
SELECT refold.append_event('ann', 'registered', '{}');
SELECT refold.append_events('ann', '[{"type": "ordered", "data": {"order": "o-1", "total": 9.99}},
  {"type": "ordered", "data": {"order": "o-2", "total": 0.01}}]');
-- Created on a log that has events.
SELECT projection, generation, events_replayed, rows_inserted, rows_updated, rows_deleted
  FROM refold.create_projection('orders', 'on_order(refold.event)', '{customer,orders}');
SELECT * FROM customer ORDER BY customer_id;
SELECT order_id, customer_id, total, taxed, placed_at = (SELECT max(recorded_at) FROM refold.event) AS at
  FROM orders ORDER BY order_id;
SELECT refold.append_event('bob', 'registered', '{}');
SELECT refold.append_event('bob', 'ordered', '{"order": "o-3", "total": 3}');
SELECT refold.append_event('eve', 'registered', '{}');
SELECT refold.append_event('eve', 'ordered', '{"order": "o-4", "total": 4}');
SELECT refold.append_event('eve', 'forgotten', '{}');
SELECT * FROM customer ORDER BY customer_id;
SELECT order_id, customer_id, total, taxed FROM orders ORDER BY order_id;
-- The foreign key holds for handlers too.
SELECT refold.append_event('zoe', 'ordered', '{"order": "o-5", "total": 5}');
SELECT * FROM refold.verify_projection('orders');
SELECT projection, generation, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('orders');
-- What was broken by hand is healed, parents before children.
DELETE FROM orders WHERE order_id = 'o-3';
DELETE FROM customer WHERE customer_id = 'bob';
INSERT INTO customer VALUES ('mallory');
INSERT INTO orders VALUES ('o-9', 'mallory', 9, now());
UPDATE customer SET orders = 7 WHERE customer_id = 'ann';
SELECT relation, key, live - 'placed_at' AS live, rebuilt - 'placed_at' AS rebuilt
  FROM refold.verify_projection('orders') ORDER BY relation, key;
SELECT projection, generation, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('orders');
SELECT * FROM refold.verify_projection('orders');

-- SQL and PL/Python.
CREATE TABLE seen_sql (stream_id text PRIMARY KEY, events int, last text);
CREATE FUNCTION on_event_sql(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO seen_sql AS s VALUES (event.stream_id, 1, event.event_type)
    ON CONFLICT (stream_id) DO UPDATE SET events = s.events + 1, last = EXCLUDED.last;
$$;
CREATE TABLE seen_python (stream_id text PRIMARY KEY, events int, last text);
CREATE FUNCTION on_event_python(event refold.event) RETURNS void LANGUAGE plpython3u AS $$
plan = plpy.prepare("INSERT INTO seen_python AS s VALUES ($1, 1, $2) "
                    "ON CONFLICT (stream_id) DO UPDATE SET events = s.events + 1, last = EXCLUDED.last", ["text", "text"])
plpy.execute(plan, [event["stream_id"], event["event_type"]])
$$;
SELECT projection, events_replayed, rows_inserted FROM refold.create_projection('seen sql', 'on_event_sql(refold.event)', '{seen_sql}');
SELECT projection, events_replayed, rows_inserted FROM refold.create_projection('seen python', 'on_event_python(refold.event)', '{seen_python}');
SELECT refold.append_events('ann', '[{"type": "a", "data": 1}, {"type": "b", "data": 2}]');
SELECT refold.append_event('new', 'c', '{}');
SELECT * FROM seen_sql ORDER BY stream_id;
TABLE seen_sql EXCEPT TABLE seen_python;
TABLE seen_python EXCEPT TABLE seen_sql;
SELECT * FROM refold.verify_projection('seen sql');
SELECT * FROM refold.verify_projection('seen python');
SELECT projection, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('seen sql');
SELECT projection, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('seen python');

-- A handler may read tables that belong to no projection, or to another one.
CREATE TABLE price (item text PRIMARY KEY, price numeric NOT NULL);
INSERT INTO price VALUES ('tea', 3), ('jam', 4);
CREATE TABLE revenue (item text PRIMARY KEY, amount numeric NOT NULL, customers bigint);
CREATE FUNCTION on_sale(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO revenue AS r
    SELECT p.item, p.price, (SELECT count(*) FROM customer) FROM price AS p WHERE p.item = event.data ->> 'item'
    ON CONFLICT (item) DO UPDATE SET amount = r.amount + EXCLUDED.amount, customers = EXCLUDED.customers;
END
$$;
SELECT generation FROM refold.create_projection('revenue', 'on_sale(refold.event)', '{revenue}', '{sold}');
SELECT refold.append_event('till', 'sold', '{"item": "tea"}');
SELECT refold.append_events('till', '[{"type": "sold", "data": {"item": "tea"}}, {"type": "sold", "data": {"item": "jam"}},
  {"type": "sold", "data": {"item": "soap"}}]');
SELECT * FROM revenue ORDER BY item;
SELECT * FROM refold.verify_projection('revenue');
UPDATE price SET price = 5 WHERE item = 'tea';
SELECT * FROM refold.verify_projection('revenue');
SELECT projection, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('revenue');

-- A serial projection, fed by several streams.
CREATE TABLE ledger (entry bigint PRIMARY KEY, stream_id text, balance numeric);
CREATE FUNCTION on_booking(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO ledger SELECT coalesce(max(l.entry), 0) + 1, event.stream_id,
    coalesce((SELECT m.balance FROM ledger AS m ORDER BY m.entry DESC LIMIT 1), 0) + (event.data)::numeric FROM ledger AS l;
$$;
SELECT generation FROM refold.create_projection('ledger', 'on_booking(refold.event)', '{ledger}', '{booked}', serial => true);
SELECT serial FROM refold.projections WHERE name = 'ledger';
SELECT refold.append_event('a', 'booked', '10');
SELECT refold.append_events('b', '[{"type": "booked", "data": -3}, {"type": "booked", "data": 0.50}]');
SELECT refold.append_event('a', 'booked', '1');
SELECT * FROM ledger ORDER BY entry;
SELECT * FROM refold.verify_projection('ledger');
SELECT projection, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('ledger');
