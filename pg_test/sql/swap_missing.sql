CREATE EXTENSION refold;
CREATE EXTENSION amcheck;

-- What rows lack that are older than a column: a value of the column's own, which stays with those rows.
CREATE TABLE cart (cart_id text PRIMARY KEY, gone int8, n int NOT NULL);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  state.cart_id := event.stream_id; state.n := coalesce(state.n, 0) + 1;
  RETURN state;
END
$$;
SELECT generation FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT refold.append_event('c' || n % 3, 'added', '{}') FROM generate_series(1, 7) AS n;
ALTER TABLE cart DROP COLUMN gone;
ALTER TABLE cart ADD note text NOT NULL DEFAULT 'old', ADD price numeric DEFAULT 1.50, ADD tags text[] DEFAULT '{a,b}', ADD gone date DEFAULT '2000-01-01';
ALTER TABLE cart ALTER note SET DEFAULT 'new', ALTER price DROP DEFAULT, DROP COLUMN gone;
CREATE VIEW missing AS SELECT n.nspname LIKE 'refold%' AS is_shadow, a.attname, a.attmissingval::text FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relname = 'cart' AND a.atthasmissing ORDER BY 1, a.attnum;
TABLE missing;
SELECT refold._shadow_step('cart', 'create');
INSERT INTO refold_shadow_1.cart (cart_id, n) VALUES ('shadow', 7);
INSERT INTO refold_shadow_1.cart VALUES ('shadow 2', 7, NULL);
INSERT INTO refold_shadow_1.cart VALUES ('shadow 2', 7, 'two', 2, NULL);
TABLE missing;
SELECT * FROM cart ORDER BY 1;
SELECT refold._shadow_step('cart', 'swap');
TABLE missing;
SELECT * FROM cart ORDER BY 1;
SELECT * FROM refold_shadow_1.cart ORDER BY 1;
SELECT msg FROM verify_heapam('cart') UNION ALL SELECT msg FROM verify_heapam('refold_shadow_1.cart');
UPDATE refold_shadow_1.cart SET price = 3 WHERE cart_id = 'c1';
SELECT refold._shadow_step('cart', 'swap');
TABLE missing;
SELECT * FROM cart ORDER BY 1;
SELECT * FROM refold_shadow_1.cart ORDER BY 1;

-- What rewrites the old rows fills them in.
SELECT refold._shadow_step('cart', 'swap');
VACUUM FULL refold_shadow_1.cart;
TABLE missing;
SELECT * FROM refold_shadow_1.cart ORDER BY 1;
SELECT refold._shadow_step('cart', 'swap');
SELECT * FROM cart ORDER BY 1;
SELECT refold._shadow_step('cart', 'drop');
