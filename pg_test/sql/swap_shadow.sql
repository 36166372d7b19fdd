CREATE EXTENSION refold;
CREATE EXTENSION amcheck;
CREATE EXTENSION pg_visibility;
CREATE EXTENSION btree_gist;

-- A shadow is like its table, dropped columns, options and all; and storage goes from one to the other and back.
CREATE ROLE swap_shadow_owner;
CREATE SCHEMA shop AUTHORIZATION swap_shadow_owner;
CREATE TYPE shop.mood AS ENUM ('sad', 'happy');
CREATE COLLATION shop.c FROM "C";
CREATE TABLE shop.cart (
  gone_1 float8, cart_id text COLLATE shop.c, gone_2 text, items int NOT NULL DEFAULT 1, gone_3 uuid, doubled int GENERATED ALWAYS AS (items * 2) STORED,
  mood shop.mood DEFAULT 'happy', note text, price numeric(8, 2), "odd ""name" box, gone_4 "char", hours int4range,
  CONSTRAINT "cart key" PRIMARY KEY (cart_id) INCLUDE (items) WITH (fillfactor = 80),
  CONSTRAINT cart_price UNIQUE (cart_id, price) DEFERRABLE,
  CONSTRAINT cart_hours EXCLUDE USING gist (cart_id WITH =, hours WITH &&) WHERE (items > 0),
  CONSTRAINT cart_items CHECK (items >= 0)
) WITH (fillfactor = 70, autovacuum_enabled = false, toast.autovacuum_vacuum_cost_delay = 3);
ALTER TABLE shop.cart DROP COLUMN gone_1, DROP COLUMN gone_2, DROP COLUMN gone_3, DROP COLUMN gone_4;
ALTER TABLE shop.cart ADD CONSTRAINT cart_note CHECK (note <> 'x') NOT VALID, ALTER note SET STORAGE external, ALTER note SET COMPRESSION pglz,
  ALTER items SET STATISTICS 50, ALTER mood SET (n_distinct = 2);
CREATE INDEX cart_lower ON shop.cart (lower(note) text_pattern_ops DESC, mood);
ALTER INDEX shop.cart_lower ALTER COLUMN 1 SET STATISTICS 70;
CREATE INDEX ON shop.cart USING gin (string_to_array(note, ' ')) WITH (fastupdate = off) WHERE items > 1;
CREATE INDEX ON shop.cart USING hash (note);
CREATE INDEX ON shop.cart USING brin (price numeric_minmax_multi_ops (values_per_range = 8)) WITH (pages_per_range = 4);
CREATE INDEX ON shop.cart USING spgist (hours);
CREATE UNIQUE INDEX ON shop.cart (mood, cart_id) NULLS NOT DISTINCT WHERE mood = 'sad';
CREATE STATISTICS shop.some (mcv) ON items, mood FROM shop.cart;
CREATE STATISTICS shop.one ON (items % 7) FROM shop.cart;
ALTER STATISTICS shop.some SET STATISTICS 90;
ALTER TABLE shop.cart OWNER TO swap_shadow_owner;
GRANT SELECT ON shop.cart TO PUBLIC;
SET search_path = shop, public;
CREATE FUNCTION on_event(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO cart (cart_id, items, note, price) VALUES (event.stream_id, (event.data->>'n')::int, repeat(event.stream_id, 10), 1)
    ON CONFLICT ON CONSTRAINT "cart key" DO UPDATE SET items = excluded.items;
$$;
ALTER FUNCTION on_event OWNER TO swap_shadow_owner;
GRANT USAGE ON SCHEMA refold TO swap_shadow_owner;
GRANT SELECT ON refold.event TO swap_shadow_owner;
SELECT generation FROM refold.create_projection('cart', 'on_event(refold.event)', '{cart}');
SELECT refold._shadow_step('cart', 'create');
SET search_path = public;
-- Of the names, those of constraints are the same.
\d refold_shadow_1.cart
SELECT conname FROM pg_constraint WHERE conrelid = 'shop.cart'::regclass EXCEPT ALL
SELECT conname FROM pg_constraint WHERE conrelid = 'refold_shadow_1.cart'::regclass;
SELECT a.attnum, a.attname FROM pg_attribute AS a JOIN pg_attribute AS s USING (attnum, attname, atttypid, atttypmod, attlen, attalign, attbyval,
    attstorage, attcompression, attcollation, attnotnull, atthasdef, attgenerated, attisdropped)
 WHERE a.attrelid = 'shop.cart'::regclass AND s.attrelid = 'refold_shadow_1.cart'::regclass AND a.attnum > 0
   -- PostgreSQL may number the layouts of a column there, each table's on its own.
   AND ARRAY(SELECT o FROM unnest(a.attoptions) AS o WHERE o NOT LIKE 'pg\_attver=%') = ARRAY(SELECT o FROM unnest(s.attoptions) AS o WHERE o NOT LIKE 'pg\_attver=%')
   AND a.attstattarget IS NOT DISTINCT FROM s.attstattarget ORDER BY 1;
SELECT reloptions FROM pg_class WHERE oid IN (SELECT reltoastrelid FROM pg_class WHERE relname = 'cart');
-- From 17 on, the owner's rights have one more.
SELECT relname, reloptions, replace(relacl::text, 'xtm', 'xt') AS acl FROM pg_class WHERE relname = 'cart' ORDER BY relacl::text NULLS FIRST;
SELECT stxkind, nullif(stxstattarget, -1) AS target, pg_get_statisticsobjdef_columns(oid) FROM pg_statistic_ext ORDER BY 3, oid;
SELECT i.attname, i.attstattarget FROM pg_attribute AS i JOIN pg_index ON indexrelid = attrelid WHERE i.attstattarget >= 0 ORDER BY attrelid;
SELECT nspacl FROM pg_namespace WHERE nspname = 'refold_shadow_1';
DROP SCHEMA refold_shadow_1 CASCADE;

INSERT INTO shop.cart (cart_id, items, note) SELECT 'live ' || n, n, repeat('long ', n * 400) FROM generate_series(1, 40) AS n;
INSERT INTO refold_shadow_1.cart (cart_id, items, note, mood) SELECT 'shadow ' || n, n, repeat('wide ', n * 300), 'sad' FROM generate_series(1, 50) AS n;
ANALYZE shop.cart;
SELECT refold._shadow_step('cart', 'analyze');
CREATE TEMP TABLE was AS SELECT oid, relname, relfilenode, relpages, reltuples, relfrozenxid FROM pg_class;
CREATE FUNCTION pg_temp.state() RETURNS TABLE (fact text, live text, shadow text) LANGUAGE plpgsql AS $$
DECLARE
  tables regclass[] := '{shop.cart, refold_shadow_1.cart}';
  r text[] := '{}';
  v text;
  t regclass;
BEGIN
  FOREACH t IN ARRAY tables LOOP
    EXECUTE format('SELECT array_agg(x) FROM (SELECT count(*)::text AS a, min(cart_id) AS b, sum(length(note))::text AS c, sum(doubled)::text AS d FROM %s) AS q,
      LATERAL unnest(ARRAY[a, b, c, d]) AS x', t) INTO r;
    fact := 'rows'; IF t = tables[1] THEN live := r::text; ELSE shadow := r::text; END IF;
  END LOOP;
  RETURN NEXT;
  fact := 'tuples';
  SELECT reltuples INTO live FROM pg_class WHERE oid = tables[1];
  SELECT reltuples INTO shadow FROM pg_class WHERE oid = tables[2];
  RETURN NEXT;
  fact := 'statistics';
  SELECT string_agg(attname || most_common_vals::text, ' ' ORDER BY attname) INTO live FROM pg_stats WHERE schemaname = 'shop' AND tablename = 'cart' AND attname IN ('cart_id', 'mood', 'note');
  SELECT string_agg(attname || most_common_vals::text, ' ' ORDER BY attname) INTO shadow FROM pg_stats WHERE schemaname = 'refold_shadow_1' AND tablename = 'cart' AND attname IN ('cart_id', 'mood', 'note');
  RETURN NEXT;
  fact := 'expression statistics';
  SELECT string_agg(attname || avg_width, ' ') INTO live FROM pg_stats WHERE schemaname = 'shop' AND tablename = 'cart_lower';
  SELECT string_agg(attname || avg_width, ' ') INTO shadow FROM pg_stats WHERE schemaname = 'refold_shadow_1' AND tablename <> 'cart' AND attname = 'lower';
  RETURN NEXT;
  fact := 'extended statistics';
  SELECT string_agg(array_length(most_common_freqs, 1)::text, ' ') INTO live FROM pg_stats_ext WHERE tablename = 'cart' AND schemaname = 'shop';
  SELECT string_agg(array_length(most_common_freqs, 1)::text, ' ') INTO shadow FROM pg_stats_ext WHERE tablename = 'cart' AND schemaname <> 'shop';
  RETURN NEXT;
  fact := 'extended expression';
  SELECT string_agg(n_distinct::text, ' ') INTO live FROM pg_stats_ext_exprs WHERE tablename = 'cart' AND schemaname = 'shop';
  SELECT string_agg(n_distinct::text, ' ') INTO shadow FROM pg_stats_ext_exprs WHERE tablename = 'cart' AND schemaname <> 'shop';
  RETURN NEXT;
END
$$;
SELECT * FROM pg_temp.state();
SELECT refold._shadow_step('cart', 'swap');
SELECT * FROM pg_temp.state();
-- Nothing is where it was, and the toast tables have the names of their tables.
SELECT c.relname FROM was AS w JOIN pg_class AS c USING (oid, relfilenode)
 WHERE c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN ('shop.cart'::regclass, 'refold_shadow_1.cart'::regclass)) OR c.relname = 'cart';
SELECT t.relname = 'pg_toast_' || c.oid AS named, x.relname = t.relname || '_index' AS index_named FROM pg_class AS c JOIN pg_class AS t ON t.oid = c.reltoastrelid
  JOIN pg_index AS i ON i.indrelid = t.oid JOIN pg_class AS x ON x.oid = i.indexrelid WHERE c.relname = 'cart';
SELECT d.deptype FROM pg_class AS c JOIN pg_depend AS d ON d.objid = c.reltoastrelid AND d.refobjid = c.oid WHERE c.relname = 'cart';

-- Every index leads to every row, and no block of the maps is wrong.
CREATE FUNCTION pg_temp.check_all() RETURNS TABLE (relation regclass, problem text) LANGUAGE plpgsql AS $$
DECLARE r record;
BEGIN
  FOR r IN SELECT i.indexrelid AS x, m.amname, i.indisunique FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam
            WHERE i.indrelid IN (SELECT oid FROM pg_class WHERE relname = 'cart' UNION ALL SELECT reltoastrelid FROM pg_class WHERE relname = 'cart') LOOP
    IF r.amname = 'btree' THEN
      PERFORM bt_index_parent_check(r.x, true, true);
    END IF;
  END LOOP;
  RETURN QUERY SELECT c.oid::regclass, v.msg FROM pg_class AS c, verify_heapam(c.oid, check_toast => true) AS v WHERE c.relname = 'cart';
  RETURN QUERY SELECT c.oid::regclass, 'not frozen ' || t_ctid FROM pg_class AS c, pg_check_frozen(c.oid) WHERE c.relname = 'cart';
  RETURN QUERY SELECT c.oid::regclass, 'not visible ' || t_ctid FROM pg_class AS c, pg_check_visible(c.oid) WHERE c.relname = 'cart';
END
$$;
SELECT * FROM pg_temp.check_all();
SET enable_seqscan = off;
SET enable_bitmapscan = on;
EXPLAIN (COSTS OFF) SELECT count(*) FROM shop.cart WHERE note = 'wide';
SELECT count(*) FROM shop.cart WHERE note = repeat('wide ', 600);
SELECT count(*) FROM shop.cart WHERE lower(note) ~>=~ 'wide';
SELECT count(*) FROM shop.cart WHERE string_to_array(note, ' ') @> '{wide}' AND items > 1;
SELECT count(*) FROM shop.cart WHERE cart_id = 'shadow 7';
SELECT count(*) FROM shop.cart WHERE price = 3;
RESET enable_seqscan;
INSERT INTO shop.cart (cart_id) VALUES ('shadow 7');
INSERT INTO shop.cart (cart_id, items) VALUES ('new', -1);
INSERT INTO shop.cart (cart_id, note) VALUES ('new', repeat('new ', 9999));
UPDATE shop.cart SET note = note || 'more' WHERE items % 2 = 0;
DELETE FROM shop.cart WHERE items % 5 = 0;
SELECT refold.append_event('shadow 8', 'set', '{"n": 88}');
SELECT items FROM shop.cart WHERE cart_id = 'shadow 8';
VACUUM shop.cart;
SELECT * FROM pg_temp.check_all();

-- And back.
SELECT refold._shadow_step('cart', 'swap');
SELECT * FROM pg_temp.state();
SELECT count(*) FROM was AS w JOIN pg_class AS c USING (oid, relfilenode)
 WHERE c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN ('shop.cart'::regclass, 'refold_shadow_1.cart'::regclass)) OR c.relname = 'cart';
SELECT * FROM pg_temp.check_all();
SELECT refold._shadow_step('cart', 'drop');
SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'refold_shadow%';
SELECT refold._shadow_step('cart', 'swap');
SELECT refold._shadow_step('cart', 'drop');
SELECT refold._shadow_step('cart', 'sing');
SELECT refold._shadow_step('none', 'create');
RESET search_path;
DROP SCHEMA shop CASCADE;
DROP OWNED BY swap_shadow_owner;
DROP ROLE swap_shadow_owner;
