CREATE EXTENSION refold;
CREATE EXTENSION amcheck;

-- A swap is undone like any change of a catalog, and is done with other changes in one transaction.
CREATE TABLE cart (cart_id text PRIMARY KEY, items int, note text);
CREATE INDEX cart_items ON cart (items);
CREATE TABLE line (cart_id text, line int, PRIMARY KEY (cart_id, line));
CREATE FUNCTION on_added(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO cart AS c VALUES (event.stream_id, 1, repeat('live ', 2000)) ON CONFLICT (cart_id) DO UPDATE SET items = c.items + 1;
  INSERT INTO line VALUES (event.stream_id, event.stream_version);
$$;
SELECT generation FROM refold.create_projection('cart', 'on_added(refold.event)', '{line, cart}');
SELECT refold.append_event('c-' || n % 3, 'added', '{}') FROM generate_series(1, 8) AS n;
SELECT refold._shadow_step('cart', 'create');
INSERT INTO refold_shadow_1.cart SELECT 's-' || n, n, repeat('shadow ', 3000) FROM generate_series(1, 5) AS n;
INSERT INTO refold_shadow_1.line SELECT 's-' || n, n FROM generate_series(1, 5) AS n;
CREATE FUNCTION models() RETURNS TABLE (model text, rows bigint, items bigint, notes bigint, lines bigint) LANGUAGE sql AS $$
  SELECT 'live', count(*), sum(items), sum(length(note)), (SELECT count(*) FROM line) FROM cart
  UNION ALL SELECT 'shadow', count(*), sum(items), sum(length(note)), (SELECT count(*) FROM refold_shadow_1.line) FROM refold_shadow_1.cart;
$$;
CREATE FUNCTION faults() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM bt_index_parent_check(indexrelid, true, true) FROM pg_index WHERE indrelid::regclass::text ~ 'cart|line';
  RETURN QUERY SELECT msg FROM pg_class AS c, verify_heapam(c.oid, check_toast => true) WHERE relname IN ('cart', 'line');
END
$$;
CREATE TEMP TABLE files AS SELECT oid, pg_relation_filenode(oid) AS file, relname FROM pg_class
  WHERE oid IN (SELECT c FROM pg_class AS t, LATERAL (SELECT t.oid UNION ALL SELECT t.reltoastrelid UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid IN (t.oid, t.reltoastrelid)) AS p (c)
                 WHERE t.relname IN ('cart', 'line'));
CREATE TEMP VIEW same AS SELECT count(*), count(*) FILTER (WHERE f.relname = c.relname AND f.file = pg_relation_filenode(c.oid)) AS same FROM files AS f JOIN pg_class AS c USING (oid);

BEGIN;
SELECT refold._shadow_step('cart', 'swap');
SELECT * FROM models();
INSERT INTO cart VALUES ('in between', 100, repeat('x', 9999));
SELECT * FROM models();
ROLLBACK;
SELECT * FROM models();
TABLE same;
SELECT * FROM faults();

BEGIN;
INSERT INTO line VALUES ('before', 1);
SAVEPOINT a;
SELECT refold._shadow_step('cart', 'swap');
SAVEPOINT b;
SELECT refold._shadow_step('cart', 'swap');
SELECT * FROM models();
ROLLBACK TO b;
SELECT * FROM models();
UPDATE cart SET items = items + 1;
RELEASE b;
ROLLBACK TO a;
SELECT * FROM models();
TABLE same;
COMMIT;
DELETE FROM line WHERE cart_id = 'before';
SELECT * FROM models();

BEGIN;
SAVEPOINT a;
SELECT refold._shadow_step('cart', 'swap');
RELEASE a;
UPDATE cart SET items = items + 1;
COMMIT;
SELECT * FROM models();
SELECT * FROM faults();
DO $$
BEGIN
  PERFORM refold._shadow_step('cart', 'swap');
  RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
  RAISE NOTICE '% rows', (SELECT count(*) FROM cart);
END
$$;
SELECT * FROM models();

-- Twice is nothing.
BEGIN;
SELECT refold._shadow_step('cart', 'swap');
SELECT refold._shadow_step('cart', 'swap');
COMMIT;
SELECT * FROM models();
SELECT * FROM faults();

-- What rewrites, in the same transaction and after it.
BEGIN;
SELECT refold._shadow_step('cart', 'swap');
ALTER TABLE cart ADD stamp timestamptz DEFAULT clock_timestamp();
TRUNCATE refold_shadow_1.cart;
SELECT * FROM models();
ROLLBACK;
SELECT * FROM models();
BEGIN;
SELECT refold._shadow_step('cart', 'swap');
REINDEX TABLE cart;
SELECT refold._shadow_step('cart', 'swap');
ROLLBACK;
SELECT * FROM faults();
SELECT refold._shadow_step('cart', 'swap');
VACUUM (FREEZE) cart, line, refold_shadow_1.cart;
ANALYZE cart;
REINDEX TABLE cart;
REINDEX TABLE CONCURRENTLY cart;
REINDEX TABLE CONCURRENTLY refold_shadow_1.cart;
CLUSTER cart USING cart_items;
VACUUM FULL refold_shadow_1.cart;
SELECT * FROM models();
SELECT * FROM faults();
SELECT refold._shadow_step('cart', 'swap');
SELECT * FROM models();
SELECT * FROM faults();
SELECT refold._shadow_step('cart', 'swap');
BEGIN;
SELECT refold._shadow_step('cart', 'swap');
SELECT refold._shadow_step('cart', 'drop');
COMMIT;
SELECT count(*), sum(items), sum(length(note)) FROM cart;
SELECT refold._shadow_step('cart', 'create');
BEGIN;
SELECT refold._shadow_step('cart', 'swap');
SELECT refold._shadow_step('cart', 'drop');
ROLLBACK;
BEGIN;
SELECT refold._shadow_step('cart', 'swap');
SELECT refold._shadow_step('cart', 'drop');
COMMIT;
SELECT count(*), sum(items), sum(length(note)) FROM cart;
SELECT refold.append_event('c-1', 'added', '{}');
ALTER TABLE cart ADD stamp timestamptz DEFAULT clock_timestamp(), ALTER items TYPE bigint, DROP note;
CREATE INDEX ON cart (stamp);
SELECT cart_id, items FROM cart;
SELECT * FROM faults();

-- No file is left behind.
DROP TABLE cart, line CASCADE;
CHECKPOINT;
SELECT count(*) FROM pg_ls_dir('base/' || (SELECT oid FROM pg_database WHERE datname = current_database())) AS f (name)
 WHERE name ~ '^[0-9]+' AND substring(name FROM '^[0-9]+')::oid NOT IN (SELECT pg_relation_filenode(oid) FROM pg_class WHERE pg_relation_filenode(oid) IS NOT NULL);
