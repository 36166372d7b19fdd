CREATE EXTENSION refold;

-- Whatever hangs on a read model survives its rebuild.
CREATE ROLE rebuild_keeps_reader;
CREATE TABLE cart (cart_id text PRIMARY KEY, items int CHECK (items >= 0), doubled int GENERATED ALWAYS AS (items * 2) STORED);
CREATE INDEX cart_items ON cart (items) WHERE items > 1;
CREATE STATISTICS cart_statistics ON items, doubled FROM cart;
CREATE FUNCTION on_added(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO cart AS c VALUES (event.stream_id, 1) ON CONFLICT (cart_id) DO UPDATE SET items = c.items + 1;
$$;
SELECT refold.append_event('c-' || n % 3, 'added', '{}') FROM generate_series(1, 8) AS n;
SELECT generation, rows_inserted FROM refold.create_projection('cart', 'on_added(refold.event)', '{cart}');
CREATE VIEW big_cart AS SELECT cart_id, items FROM cart WHERE items > 2;
CREATE MATERIALIZED VIEW sums AS SELECT sum(items) AS items FROM cart;
CREATE TABLE invoice (cart_id text REFERENCES cart);
INSERT INTO invoice VALUES ('c-1');
CREATE FUNCTION cart_of(id text) RETURNS cart LANGUAGE sql BEGIN ATOMIC SELECT * FROM cart WHERE cart_id = id; END;
GRANT SELECT ON cart TO rebuild_keeps_reader;
ALTER TABLE cart ENABLE ROW LEVEL SECURITY;
CREATE POLICY small ON cart FOR SELECT TO rebuild_keeps_reader USING (items < 3);
SET client_min_messages = error; -- whatever wal_level is
CREATE PUBLICATION rebuild_keeps FOR TABLE cart WITH (publish = 'insert');
RESET client_min_messages;
COMMENT ON TABLE cart IS 'carts';
CREATE TABLE heard (tg_op text, rows int);
CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.heard VALUES (TG_OP, 1);
  RETURN NULL;
END
$$;
CREATE TRIGGER hear AFTER INSERT OR UPDATE OR DELETE ON cart FOR EACH ROW EXECUTE FUNCTION hear();
CREATE TEMP TABLE before AS SELECT oid, relfilenode FROM pg_class WHERE relname IN ('cart', 'cart_pkey', 'cart_items', 'big_cart', 'sums');

CREATE OR REPLACE FUNCTION on_added(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO cart AS c VALUES (event.stream_id, 10) ON CONFLICT (cart_id) DO UPDATE SET items = c.items + 10;
$$;
SELECT generation, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('cart');
SELECT * FROM cart ORDER BY cart_id;
SELECT * FROM heard;
SELECT count(*) FROM before AS b JOIN pg_class AS c USING (oid, relfilenode);
SELECT * FROM big_cart ORDER BY cart_id;
REFRESH MATERIALIZED VIEW sums;
SELECT * FROM sums;
SELECT * FROM cart_of('c-1');
DELETE FROM cart WHERE cart_id = 'c-1';
SET ROLE rebuild_keeps_reader;
SELECT * FROM cart;
RESET ROLE;
\d cart
SELECT obj_description('cart'::regclass);
SELECT * FROM refold.verify_projection('cart');

-- What a rebuild would break, it does not do: the row that an invoice names must not go.
CREATE FUNCTION on_added_less(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO cart SELECT event.stream_id WHERE event.stream_id <> 'c-1' ON CONFLICT DO NOTHING;
$$;
SELECT refold.rebuild_projection('cart', 'on_added_less(refold.event)');
SELECT * FROM cart ORDER BY cart_id;
SELECT generation, handler, state FROM refold.projections;
DROP PUBLICATION rebuild_keeps;
DROP OWNED BY rebuild_keeps_reader;
DROP ROLE rebuild_keeps_reader;
