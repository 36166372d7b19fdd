CREATE EXTENSION refold;

-- Whatever hangs on a read model survives the swap, and nothing of it happens because of the swap.
CREATE ROLE swap_keeps_reader;
CREATE TABLE cart (cart_id text PRIMARY KEY, items int, seen bool DEFAULT true);
CREATE UNIQUE INDEX cart_identity ON cart (cart_id);
CREATE FUNCTION on_added(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO cart AS c VALUES (event.stream_id, 1) ON CONFLICT ON CONSTRAINT cart_pkey DO UPDATE SET items = c.items + 1;
$$;
SELECT generation FROM refold.create_projection('cart', 'on_added(refold.event)', '{cart}');
SELECT refold.append_event('c-' || n % 3, 'added', '{}') FROM generate_series(1, 8) AS n;
CREATE VIEW big_cart AS SELECT cart_id, items FROM cart WHERE items > 2;
CREATE MATERIALIZED VIEW sums AS SELECT sum(items) AS items FROM cart;
CREATE FUNCTION cart_of(id text) RETURNS cart LANGUAGE sql BEGIN ATOMIC SELECT * FROM cart WHERE cart_id = id; END;
CREATE FUNCTION total() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT sum(items) FROM cart); END $$;
GRANT SELECT ON cart TO swap_keeps_reader;
ALTER TABLE cart ENABLE ROW LEVEL SECURITY;
CREATE POLICY small ON cart FOR SELECT TO swap_keeps_reader USING (items < 3);
ALTER TABLE cart REPLICA IDENTITY USING INDEX cart_identity;
CLUSTER cart USING cart_pkey;
COMMENT ON TABLE cart IS 'carts';
COMMENT ON INDEX cart_identity IS 'identity';
CREATE TABLE heard (tg_op text, tg_level text);
CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.heard VALUES (TG_OP, TG_LEVEL);
  RETURN NULL;
END
$$;
CREATE TRIGGER hear AFTER INSERT OR UPDATE OR DELETE ON cart FOR EACH ROW EXECUTE FUNCTION hear();
CREATE TRIGGER hear_all AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cart FOR EACH STATEMENT EXECUTE FUNCTION hear();

SELECT refold._shadow_step('cart', 'create');
INSERT INTO refold_shadow_1.cart SELECT 's-' || n, n FROM generate_series(1, 4) AS n;
PREPARE items AS SELECT * FROM cart ORDER BY cart_id;
EXECUTE items;
PREPARE one (text) AS SELECT items FROM cart WHERE cart_id = $1;
SET plan_cache_mode = force_generic_plan;
EXECUTE one ('c-1');
EXECUTE one ('s-3');
SELECT total();
SELECT * FROM cart_of('c-1');
CREATE TEMP TABLE before AS SELECT oid, relname FROM pg_class WHERE relname IN ('cart', 'cart_pkey', 'cart_identity', 'big_cart', 'sums');

-- In use by this session: a cursor, and a trigger that waits for the end of the transaction.
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM cart;
FETCH c;
SELECT refold._shadow_step('cart', 'swap');
ROLLBACK;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON cart DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hear();
BEGIN;
INSERT INTO cart VALUES ('late');
SELECT refold._shadow_step('cart', 'swap');
ROLLBACK;
DROP TRIGGER late ON cart;
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT * FROM cart ORDER BY cart_id;
COMMIT;

SELECT refold._shadow_step('cart', 'swap');
FETCH ALL FROM held;
EXECUTE items;
EXECUTE one ('c-1');
EXECUTE one ('s-3');
SELECT total();
SELECT * FROM cart_of('s-1');
TABLE heard;
SELECT * FROM big_cart ORDER BY cart_id;
TABLE sums;
REFRESH MATERIALIZED VIEW sums;
TABLE sums;
SELECT count(*) FROM before JOIN pg_class USING (oid, relname);
SET ROLE swap_keeps_reader;
SELECT * FROM cart ORDER BY cart_id;
SELECT * FROM refold_shadow_1.cart;
RESET ROLE;
\d cart
SELECT indexrelid::regclass, indisclustered, indisreplident, obj_description(indexrelid) FROM pg_index WHERE indrelid = 'cart'::regclass ORDER BY 1;
SELECT obj_description('cart'::regclass);
-- Triggers hear of what comes after.
SELECT refold.append_event('s-1', 'added', '{}');
TABLE heard;
SELECT * FROM cart ORDER BY cart_id;
SELECT * FROM refold_shadow_1.cart ORDER BY cart_id;

-- The extension takes the shadow along.
BEGIN;
SET LOCAL client_min_messages = warning;
DROP EXTENSION refold CASCADE;
SELECT count(*) FROM pg_class WHERE relname = 'cart';
ROLLBACK;
SELECT refold._shadow_step('cart', 'drop');
SELECT * FROM cart ORDER BY cart_id;
DROP OWNED BY swap_keeps_reader;
DROP ROLE swap_keeps_reader;
