CREATE EXTENSION refold;
CREATE ROLE create_refusals_owner;
CREATE ROLE create_refusals_other;

-- The name.
CREATE TABLE cart (cart_id text PRIMARY KEY, items int);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$ SELECT event.stream_id, 1 $$;
SELECT refold.create_projection(NULL, 'fold_cart(cart, refold.event)');
SELECT refold.create_projection('', 'fold_cart(cart, refold.event)');
SELECT refold.create_projection(repeat('ä', 32), 'fold_cart(cart, refold.event)');
SELECT refold.create_projection('cart', NULL);
SELECT refold.create_projection('cart', 'fold_cart(cart, refold.event)', serial => NULL);

-- The form of the handler.
CREATE FUNCTION no_arguments() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION returns_int(event refold.event) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION of_json(event jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION of_record(state record, event refold.event) RETURNS record LANGUAGE plpgsql AS 'BEGIN RETURN state; END';
CREATE FUNCTION swapped(event refold.event, state cart) RETURNS cart LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION returns_set(event refold.event) RETURNS SETOF void LANGUAGE sql AS '';
CREATE FUNCTION set_of_rows(state cart, event refold.event) RETURNS SETOF cart LANGUAGE sql AS 'SELECT state';
CREATE FUNCTION more_arguments(event refold.event, n int DEFAULT 1) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION no_table(state int, event refold.event) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE pair AS (a text, b int);
CREATE FUNCTION of_type(state pair, event refold.event) RETURNS pair LANGUAGE sql AS 'SELECT state';
CREATE VIEW cart_view AS SELECT * FROM cart;
CREATE FUNCTION of_view(state cart_view, event refold.event) RETURNS cart_view LANGUAGE sql AS 'SELECT state';
CREATE PROCEDURE proc(event refold.event) LANGUAGE sql AS '';
CREATE FUNCTION state_int(state int, event refold.event) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE agg(refold.event) (SFUNC = state_int, STYPE = int);
SELECT refold.create_projection('p', 'no_arguments()', '{cart}');
\set VERBOSITY terse
SELECT refold.create_projection('p', 'returns_int(refold.event)', '{cart}');
SELECT refold.create_projection('p', 'of_json(jsonb)', '{cart}');
SELECT refold.create_projection('p', 'of_record(record, refold.event)', '{cart}');
SELECT refold.create_projection('p', 'swapped(refold.event, cart)');
SELECT refold.create_projection('p', 'returns_set(refold.event)', '{cart}');
SELECT refold.create_projection('p', 'set_of_rows(cart, refold.event)');
SELECT refold.create_projection('p', 'more_arguments(refold.event, int)', '{cart}');
SELECT refold.create_projection('p', 'no_table(int, refold.event)');
SELECT refold.create_projection('p', 'of_type(pair, refold.event)');
SELECT refold.create_projection('p', 'of_view(cart_view, refold.event)');
SELECT refold.create_projection('p', 'proc(refold.event)', '{cart}');
SELECT refold.create_projection('p', 'agg(refold.event)', '{cart}');
SELECT refold.create_projection('p', 'missing(refold.event)', '{cart}');
\set VERBOSITY default

-- What the handler does.
CREATE FUNCTION strict_fold(state cart, event refold.event) RETURNS cart LANGUAGE sql STRICT AS $$ SELECT event.stream_id, 1 $$;
CREATE FUNCTION pinned(event refold.event) RETURNS void LANGUAGE sql SET search_path = public AS '';
CREATE FUNCTION atomic(event refold.event) RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO cart VALUES ((event).stream_id); END;
CREATE FUNCTION qualified(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO "public" . Cart VALUES (event.stream_id);
END
$$;
CREATE FUNCTION appending(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refold.append_event('x', 'y', '{}');
END
$$;
CREATE FUNCTION fold_appending(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  PERFORM Refold.Append_Events('x', '[]');
  RETURN state;
END
$$;
SELECT refold.create_projection('p', 'strict_fold(cart, refold.event)');
SELECT refold.create_projection('p', 'pinned(refold.event)', '{cart}');
SELECT refold.create_projection('p', 'atomic(refold.event)', '{cart}');
SELECT refold.create_projection('p', 'qualified(refold.event)', '{cart}');
SELECT refold.create_projection('p', 'appending(refold.event)', '{cart}');
SELECT refold.create_projection('p', 'fold_appending(cart, refold.event)');
-- A fold writes nothing itself: it may pin its search_path.
CREATE FUNCTION fold_pinned(state cart, event refold.event) RETURNS cart LANGUAGE sql SET search_path = pg_catalog AS $$
  SELECT event.stream_id, 1 -- public.cart
$$;
SELECT generation FROM refold.create_projection('cart', 'fold_pinned(cart, refold.event)');

-- The names of projections and their tables are taken once.
CREATE FUNCTION on_event(event refold.event) RETURNS void LANGUAGE sql AS '';
CREATE TABLE a (id text PRIMARY KEY);
CREATE TABLE b (id text PRIMARY KEY);
SELECT refold.create_projection('cart', 'on_event(refold.event)', '{a}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{a,cart}');
SELECT refold.create_projection('p', 'fold_cart(cart, refold.event)');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{a,b,a}');
SELECT refold.create_projection('p', 'on_event(refold.event)');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{a,NULL}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{a,missing}');
SELECT refold.drop_projection('cart');
SELECT refold.create_projection('p', 'fold_cart(cart, refold.event)', '{a}');
SELECT refold.create_projection('p', 'fold_cart(cart, refold.event)', '{cart,a}');

-- The tables.
CREATE TABLE no_key (id text);
CREATE TABLE late_key (id text PRIMARY KEY DEFERRABLE);
CREATE TABLE parted (id text PRIMARY KEY) PARTITION BY HASH (id);
CREATE TABLE part PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE parent (id text PRIMARY KEY);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
CREATE MATERIALIZED VIEW matview AS SELECT 'x' AS id;
CREATE SEQUENCE numbers;
CREATE TEMP TABLE temporary (id text PRIMARY KEY);
CREATE UNLOGGED TABLE unlogged (id text PRIMARY KEY);
CREATE TABLE triggered (id text PRIMARY KEY);
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER change BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION change();
CREATE TABLE ruled (id text PRIMARY KEY);
CREATE RULE nothing AS ON DELETE TO ruled DO INSTEAD NOTHING;
CREATE TABLE forced (id text PRIMARY KEY);
ALTER TABLE forced FORCE ROW LEVEL SECURITY;
CREATE TABLE filled (id text PRIMARY KEY);
INSERT INTO filled VALUES ('x');
CREATE TABLE referenced (id text PRIMARY KEY, name text UNIQUE);
CREATE TABLE referring (id text REFERENCES referenced);
SELECT refold.create_projection('p', 'on_event(refold.event)', '{no_key}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{late_key}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{parted}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{part}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{parent}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{child}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{matview}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{cart_view}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{numbers}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{a_pkey}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{pg_class}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{refold.event}');
DO $$ -- the schema's name depends on chance
BEGIN
  PERFORM refold.create_projection('p', 'on_event(refold.event)', '{temporary}');
EXCEPTION WHEN feature_not_supported THEN
  RAISE NOTICE 'refused';
END
$$;
SELECT refold.create_projection('p', 'on_event(refold.event)', '{unlogged}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{triggered}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{ruled}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{forced}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{filled}');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{referenced}');
CREATE TABLE numbered (id text PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY);
CREATE FUNCTION fold_numbered(state numbered, event refold.event) RETURNS numbered LANGUAGE sql AS $$ SELECT event.stream_id, 1 $$;
SELECT refold.create_projection('p', 'fold_numbered(numbered, refold.event)');


-- Foreign keys that a copy or a handler could not follow, and those they can.
CREATE FUNCTION code(projection text, handler regprocedure, tables regclass[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refold.create_projection(projection, handler, tables);
  PERFORM refold.drop_projection(projection);
  RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE;
END
$$;
CREATE TABLE basket (id text PRIMARY KEY);
CREATE TABLE line (id text PRIMARY KEY, basket text REFERENCES basket ON DELETE CASCADE);
SELECT refold.create_projection('p', 'on_event(refold.event)', '{basket,line}');
CREATE FUNCTION code_of(action text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  DROP TABLE line;
  EXECUTE 'CREATE TABLE line (id text PRIMARY KEY, basket text REFERENCES basket ' || action || ')';
  RETURN code('p', 'on_event(refold.event)', ARRAY['basket'::text::regclass, 'line'::text::regclass]);
END
$$;
SELECT action, code_of(action) FROM unnest(ARRAY['ON DELETE NO ACTION', 'ON DELETE RESTRICT', 'ON DELETE SET NULL',
  'ON DELETE SET DEFAULT', 'ON UPDATE CASCADE', 'DEFERRABLE', 'DEFERRABLE INITIALLY DEFERRED', 'ON DELETE CASCADE']) AS action;
-- To a table outside, a cascade may go.
SELECT code('p', 'on_event(refold.event)', '{line}');
CREATE TABLE late (id text PRIMARY KEY, basket text REFERENCES basket DEFERRABLE INITIALLY DEFERRED);
SELECT refold.create_projection('p', 'on_event(refold.event)', '{late}');

-- Their owners.
ALTER TABLE b OWNER TO create_refusals_other;
SELECT refold.create_projection('p', 'on_event(refold.event)', '{a,b}');
ALTER TABLE a OWNER TO create_refusals_other;
SELECT refold.create_projection('p', 'on_event(refold.event)', '{a,b}');
GRANT USAGE ON SCHEMA refold TO create_refusals_owner;
GRANT EXECUTE ON FUNCTION refold.create_projection TO create_refusals_owner;
SET ROLE create_refusals_owner;
SELECT refold.create_projection('p', 'on_event(refold.event)', '{a,b}');
RESET ROLE;
GRANT USAGE ON SCHEMA refold TO create_refusals_other;
GRANT SELECT ON refold.event TO create_refusals_other;
REVOKE EXECUTE ON FUNCTION on_event FROM PUBLIC;
SELECT refold.create_projection('p', 'on_event(refold.event)', '{a,b}');
GRANT EXECUTE ON FUNCTION on_event TO create_refusals_other;
SELECT generation FROM refold.create_projection('p', 'on_event(refold.event)', '{a,b}');
SELECT refold.drop_projection('p');

-- The key.
CREATE FUNCTION key_text(event refold.event) RETURNS text LANGUAGE sql AS $$ SELECT event.stream_id $$;
CREATE FUNCTION key_int(event refold.event) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;
CREATE FUNCTION key_pair(event refold.event) RETURNS pair LANGUAGE sql AS $$ SELECT event.stream_id, 1 $$;
CREATE FUNCTION key_set(event refold.event) RETURNS SETOF text LANGUAGE sql AS $$ SELECT event.stream_id $$;
CREATE FUNCTION key_of_nothing() RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
CREATE TABLE pairs (a text, b int, PRIMARY KEY (b, a));
CREATE FUNCTION fold_pairs(state pairs, event refold.event) RETURNS pairs LANGUAGE sql AS $$ SELECT event.stream_id, 1 $$;
SELECT refold.create_projection('p', 'fold_cart(cart, refold.event)', key => 'key_int(refold.event)');
\set VERBOSITY terse
SELECT refold.create_projection('p', 'fold_cart(cart, refold.event)', key => 'key_pair(refold.event)');
SELECT refold.create_projection('p', 'fold_cart(cart, refold.event)', key => 'key_set(refold.event)');
SELECT refold.create_projection('p', 'fold_cart(cart, refold.event)', key => 'key_of_nothing()');
SELECT refold.create_projection('p', 'fold_pairs(pairs, refold.event)', key => 'key_pair(refold.event)');
\set VERBOSITY default
SELECT refold.create_projection('p', 'fold_pairs(pairs, refold.event)');
SELECT refold.create_projection('p', 'on_event(refold.event)', '{a,b}', key => 'key_text(refold.event)');
CREATE TABLE priced (price money PRIMARY KEY);
CREATE FUNCTION fold_priced(state priced, event refold.event) RETURNS priced LANGUAGE sql AS $$ SELECT 1::money $$;
CREATE FUNCTION key_priced(event refold.event) RETURNS money LANGUAGE sql AS $$ SELECT 1::money $$;
SELECT refold.create_projection('p', 'fold_priced(priced, refold.event)', key => 'key_priced(refold.event)');

-- The event types.
SELECT refold.create_projection('p', 'fold_cart(cart, refold.event)', event_types => '{}');
SELECT refold.create_projection('p', 'fold_cart(cart, refold.event)', event_types => '{a,NULL}');
SELECT refold.create_projection('p', 'fold_cart(cart, refold.event)', event_types => '{a,""}');
SELECT refold.create_projection('p', 'fold_cart(cart, refold.event)', event_types => ARRAY[repeat('x', 257)]);

-- After all this there is no projection, and nothing is left behind.
SELECT name FROM refold.projections;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'refold_copy%';
DROP OWNED BY create_refusals_owner, create_refusals_other;
DROP ROLE create_refusals_owner, create_refusals_other;
