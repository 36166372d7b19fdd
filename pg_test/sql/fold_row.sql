-- A fold's row is loaded and written without statements where its table is plain, and by statements where it has anything
-- else that a statement does. Either way the row is what a statement would have made it.
CREATE EXTENSION refold;
CREATE EXTENSION amcheck;
SET client_min_messages = warning;
CREATE TABLE cart (id text PRIMARY KEY, items int NOT NULL CHECK (items < 100), note text, UNIQUE (id, items));
CREATE INDEX cart_items ON cart (items) WHERE items % 2 = 0;
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  state.id := coalesce(event.data->>'as', event.stream_id);
  state.items := coalesce(state.items, 0) + (event.data->>'add')::int;
  state.note := coalesce(event.data->>'note', state.note);
  RETURN CASE WHEN event.event_type <> 'emptied' THEN state END;
END $$;
SELECT projection FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)', event_types => '{added, emptied}');

-- Versions of a row: within a transaction and from one to the next, in its page and, where an index sees the change, not.
SELECT count(refold.append_event('chain', 'added', '{"add": 0}')) FROM generate_series(1, 300);
DO $$ BEGIN FOR i IN 1..30 LOOP PERFORM refold.append_event('chain', 'added', '{"add": 1}'); COMMIT; END LOOP; END $$;
BEGIN;
SELECT count(refold.append_event('chain', 'added', '{"add": 1}')) FROM generate_series(1, 3);
SAVEPOINT s;
SELECT count(refold.append_event('chain', 'added', '{"add": 1}')) FROM generate_series(1, 3);
ROLLBACK TO s;
SELECT count(refold.append_event('chain', 'added', '{"add": 1}')) FROM generate_series(1, 2);
COMMIT;
TABLE cart;
-- Removed, and there again; a row that somebody else has moved, or removed, in the same transaction.
SELECT refold.append_event('gone', 'added', '{"add": 1}') IS NOT NULL, refold.append_event('gone', 'emptied', '{"add": 1}') IS NOT NULL,
       refold.append_event('gone', 'emptied', '{"add": 1}') IS NOT NULL, refold.append_event('gone', 'added', '{"add": 7}') IS NOT NULL;
BEGIN;
UPDATE cart SET items = items + 10 WHERE id = 'gone';
SELECT refold.append_event('gone', 'added', '{"add": 1}') IS NOT NULL;
TABLE cart ORDER BY id;
DELETE FROM cart WHERE id = 'gone';
SELECT refold.append_event('gone', 'added', '{"add": 2}') IS NOT NULL;
TABLE cart ORDER BY id;
ROLLBACK;
-- A value out of line is kept, and replaced.
SELECT refold.append_event('long', 'added', jsonb_build_object('add', 1, 'note', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) AS i))) IS NOT NULL;
SELECT refold.append_event('long', 'added', '{"add": 1}') IS NOT NULL, refold.append_event('long', 'added', '{"add": 1}') IS NOT NULL;
SELECT id, items, length(note), md5(note) FROM cart WHERE id = 'long';
SELECT refold.append_event('long', 'added', '{"add": 1, "note": "short"}') IS NOT NULL;
SELECT id, items, note FROM cart WHERE id = 'long';
SELECT indexrelid::regclass, bt_index_check(indexrelid, true) IS NOT NULL AS checked FROM pg_index WHERE indrelid = 'cart'::regclass ORDER BY 1::text;
SELECT * FROM verify_heapam('cart', check_toast => true);
SELECT * FROM refold.verify_projection('cart');

-- What a constraint refuses; a row of another key.
SELECT refold.append_event('long', 'added', '{"add": 96}');
SELECT refold.append_event('long', 'added', '{"add": null}');
SELECT refold.append_event('long', 'added', '{"add": 1, "as": "chain"}');
SELECT items FROM cart WHERE id = 'long';

-- Columns that come, go and are named anew.
ALTER TABLE cart ADD COLUMN kept int DEFAULT 42;
SELECT refold.append_event('long', 'added', '{"add": 1}') IS NOT NULL;
ALTER TABLE cart DROP COLUMN note;
CREATE OR REPLACE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  state.id := event.stream_id;
  state.items := coalesce(state.items, 0) + (event.data->>'add')::int;
  RETURN state;
END $$;
SELECT refold.append_event('long', 'added', '{"add": 1}') IS NOT NULL;
SELECT refold.append_event('chain', 'added', '{"add": 1}') IS NOT NULL;
ALTER TABLE cart RENAME COLUMN kept TO renamed;
SELECT refold.append_event('chain', 'added', '{"add": 1}') IS NOT NULL;
TABLE cart ORDER BY id;

-- Each of these is for a statement.
CREATE TABLE told (what text);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO told VALUES (concat_ws(' ', TG_NAME, TG_LEVEL));
  RETURN NULL;
END $$;
GRANT INSERT ON told TO PUBLIC;
CREATE FUNCTION add() RETURNS TABLE (id text, items int) LANGUAGE sql AS $$
  SELECT refold.append_event('long', 'added', '{"add": 10}');
  SELECT id, items FROM cart WHERE id = 'long';
$$;
BEGIN;
CREATE TRIGGER after_row AFTER UPDATE ON cart FOR EACH ROW EXECUTE FUNCTION tell();
SELECT * FROM add();
TABLE told;
ROLLBACK;
BEGIN;
CREATE TRIGGER after_statement AFTER UPDATE ON cart FOR EACH STATEMENT EXECUTE FUNCTION tell();
SELECT * FROM add();
TABLE told;
ROLLBACK;
BEGIN;
CREATE TRIGGER before_statement BEFORE UPDATE ON cart FOR EACH STATEMENT EXECUTE FUNCTION tell();
SELECT * FROM add();
TABLE told;
ROLLBACK;
BEGIN;
ALTER TABLE cart ADD COLUMN double int GENERATED ALWAYS AS (items * 2) STORED;
SELECT * FROM add();
SELECT double FROM cart WHERE id = 'long';
ROLLBACK;
BEGIN;
CREATE TABLE item (cart text, items int, FOREIGN KEY (cart, items) REFERENCES cart (id, items));
INSERT INTO item SELECT id, items FROM cart WHERE id = 'long';
SELECT * FROM add();
ROLLBACK;
BEGIN;
ALTER TABLE cart ADD CONSTRAINT later EXCLUDE USING btree (items WITH =) DEFERRABLE INITIALLY DEFERRED;
SELECT refold.append_event('gone', 'added', '{"add": -1}') IS NOT NULL;
ROLLBACK;

-- A handler that has become STRICT is not called without a state, as in a statement.
BEGIN;
CREATE OR REPLACE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart STRICT LANGUAGE plpgsql AS $$
BEGIN
  RAISE 'called with %', coalesce(state::text, 'no state');
END $$;
SELECT refold.append_event('strict-new', 'added', '{"add": 1}') IS NOT NULL;
SELECT count(*) FROM cart WHERE id = 'strict-new';
SELECT refold.append_event('gone', 'added', '{"add": 1}');
ROLLBACK;

-- Rights and policies, for an owner whom they bind.
CREATE ROLE regress_owner;
CREATE SCHEMA owned AUTHORIZATION regress_owner;
GRANT USAGE ON SCHEMA refold TO regress_owner;
GRANT SELECT ON refold.event TO regress_owner;
SET ROLE regress_owner;
SET search_path = owned, public;
CREATE TABLE mine (id text PRIMARY KEY, n int);
CREATE FUNCTION fold_mine(state mine, event refold.event) RETURNS mine LANGUAGE plpgsql AS $$
BEGIN
  RETURN ROW(event.stream_id, coalesce(state.n, 0) + 1)::mine;
END $$;
RESET ROLE;
SELECT projection FROM refold.create_projection('mine', 'fold_mine(mine, refold.event)', event_types => '{mine}');
SELECT refold.append_event('m', 'mine', '1') IS NOT NULL, refold.append_event('m', 'mine', '1') IS NOT NULL;
BEGIN;
ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
CREATE POLICY blind ON mine USING (false);
SELECT refold.append_event('m', 'mine', '1') IS NOT NULL;
SELECT refold.append_event('m', 'mine', '1') IS NOT NULL;
SELECT n FROM mine;
ROLLBACK;
BEGIN;
ALTER TABLE mine ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT refold.append_event('m', 'mine', '1');
ROLLBACK;
BEGIN;
REVOKE UPDATE ON mine FROM regress_owner;
SELECT refold.append_event('m', 'mine', '1');
ROLLBACK;
BEGIN;
REVOKE SELECT ON mine FROM regress_owner;
SELECT refold.append_event('m', 'mine', '1');
ROLLBACK;
BEGIN;
REVOKE EXECUTE ON FUNCTION fold_mine FROM regress_owner, PUBLIC;
SELECT refold.append_event('m', 'mine', '1');
ROLLBACK;
TABLE mine;

-- Keys of several columns and of types that are alike.
CREATE TABLE public.keyed (b int, a varchar(10), n int, PRIMARY KEY (a, b));
CREATE FUNCTION key_of(event refold.event, OUT a varchar, OUT b int) IMMUTABLE LANGUAGE sql AS $$ SELECT event.data->>'a', (event.data->>'b')::int $$;
CREATE FUNCTION fold_keyed(state public.keyed, event refold.event) RETURNS public.keyed LANGUAGE plpgsql AS $$
BEGIN
  RETURN ROW(event.data->>'b', event.data->>'a', coalesce(state.n, 0) + 1)::public.keyed;
END $$;
SELECT projection FROM refold.create_projection('keyed', 'fold_keyed(public.keyed, refold.event)', key => 'key_of(refold.event)', event_types => '{keyed}');
SELECT count(refold.append_event('k' || i, 'keyed', jsonb_build_object('a', 'x' || i % 2, 'b', i % 3))) FROM generate_series(1, 20) AS i;
SELECT * FROM public.keyed ORDER BY a, b;
SELECT * FROM refold.verify_projection('keyed');
RESET search_path;
DROP SCHEMA owned CASCADE;
REVOKE ALL ON SCHEMA refold FROM regress_owner;
REVOKE ALL ON refold.event FROM regress_owner;
DROP ROLE regress_owner;

-- A handler that rewrites, empties or alters the table meanwhile: the row is not where it was, or has another layout.
CREATE TABLE stir (id text PRIMARY KEY, n bigint);
CREATE FUNCTION fold_stir(state stir, event refold.event) RETURNS stir LANGUAGE plpgsql AS $$
BEGIN
  state.id := event.stream_id;
  state.n := coalesce(state.n, 0) + 1;
  EXECUTE event.data->>0;
  RETURN state;
END $$;
SELECT projection FROM refold.create_projection('stir', 'fold_stir(stir, refold.event)', event_types => '{stir}');
SELECT count(refold.append_event(id, 'stir', '["SELECT 1"]')) FROM unnest('{e,d,c,b,a}'::text[]) AS id;
SELECT refold.append_event('b', 'stir', '["CLUSTER stir USING stir_pkey"]') IS NOT NULL;
SELECT * FROM stir ORDER BY id;
BEGIN;
SELECT refold.append_event('c', 'stir', jsonb_build_array('DELETE FROM stir WHERE id = ''c''; CLUSTER stir USING stir_pkey'));
ROLLBACK;
SELECT refold.append_event('c', 'stir', '["TRUNCATE stir"]');
SELECT refold.append_event('c', 'stir', '["ALTER TABLE stir ALTER n TYPE numeric"]');
SELECT refold.append_event('new', 'stir', '["ALTER TABLE stir ALTER n TYPE numeric"]');
SELECT refold.append_event('c', 'stir', '["ANALYZE stir"]') IS NOT NULL;
-- By statements.
CREATE FUNCTION run(what text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE what; END $$;
CREATE OR REPLACE FUNCTION fold_stir(state stir, event refold.event) RETURNS stir LANGUAGE sql AS $$
  SELECT run(event.data->>0);
  SELECT ROW(event.stream_id, coalesce(state.n, 0) + 1)::stir;
$$;
SELECT refold.append_event('c', 'stir', '["CLUSTER stir USING stir_pkey"]') IS NOT NULL;
SELECT refold.append_event('c', 'stir', '["ALTER TABLE stir ALTER n TYPE numeric"]');
SELECT * FROM stir ORDER BY id;
-- In a replay, which has called another handler than this one.
CREATE FUNCTION fold_stir_2(state stir, event refold.event) RETURNS stir LANGUAGE plpgsql AS $$
BEGIN
  state.id := event.stream_id;
  state.n := coalesce(state.n, 0) + 1;
  ALTER TABLE stir ALTER n TYPE numeric;
  RETURN state;
END $$;
SELECT refold.rebuild_projection('stir', 'fold_stir_2(stir, refold.event)');
