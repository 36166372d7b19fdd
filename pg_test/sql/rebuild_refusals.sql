CREATE EXTENSION refold;
CREATE TABLE cart (cart_id text PRIMARY KEY, items int);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.items, 0) + 1
$$;
SELECT refold.append_event('c-1', 'added', '1');
SELECT generation FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
UPDATE cart SET items = 7;

-- No such projection, no name.
SELECT refold.rebuild_projection('basket');
SELECT refold.rebuild_projection(NULL);
SELECT refold.rebuild_projection('');
SELECT refold.rebuild_projection(repeat('x', 64));
SELECT refold.drop_projection('basket');
SELECT refold.verify_projection('basket');

-- A transaction that keeps one snapshot.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT refold.rebuild_projection('cart');
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT refold.create_projection('other', 'fold_cart(cart, refold.event)');
ROLLBACK;
BEGIN READ ONLY;
SELECT refold.rebuild_projection('cart');
ROLLBACK;

-- A transaction that has locked the model; lock_gate() first makes appends wait instead.
BEGIN;
ALTER TABLE cart ADD COLUMN note text;
SELECT refold.rebuild_projection('cart');
ROLLBACK;
BEGIN;
LOCK TABLE cart IN SHARE MODE;
SELECT refold.rebuild_projection('cart');
ROLLBACK;
BEGIN;
UPDATE cart SET items = 8;
SELECT generation, rows_updated FROM refold.rebuild_projection('cart');
ROLLBACK;
BEGIN;
SELECT refold.lock_gate();
ALTER TABLE cart ADD COLUMN note text DEFAULT 'x';
CREATE OR REPLACE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.items, 0) + 1, event.event_type
$$;
SELECT generation, rows_updated FROM refold.rebuild_projection('cart');
SHOW idle_in_transaction_session_timeout;
COMMIT;
SHOW idle_in_transaction_session_timeout;
SELECT * FROM cart;

-- A transaction that has appended, and one that has appended what it took back.
BEGIN;
SELECT (refold.append_event('c-9', 'added', '1')).stream_version;
SELECT refold.rebuild_projection('cart');
ROLLBACK;
BEGIN;
SELECT (refold.append_event('c-9', 'added', '1')).stream_version;
SELECT refold.drop_projection('cart');
ROLLBACK;
BEGIN;
SELECT (refold.append_event('c-9', 'added', '1')).stream_version;
SELECT refold.lock_gate();
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT (refold.append_event('c-9', 'added', '1')).stream_version;
ROLLBACK TO s;
SELECT generation, rows_updated FROM refold.rebuild_projection('cart');
SELECT (refold.append_event('c-9', 'added', '1')).stream_version;
SELECT generation, events_replayed, rows_updated FROM refold.rebuild_projection('cart');
ROLLBACK;

-- A shorter timeout is kept, and 0 sets none.
BEGIN;
SET LOCAL idle_in_transaction_session_timeout = '7s';
SELECT generation FROM refold.rebuild_projection('cart');
SHOW idle_in_transaction_session_timeout;
ROLLBACK;
BEGIN;
SET LOCAL refold.idle_gate_timeout = 0;
SELECT generation FROM refold.rebuild_projection('cart');
SHOW idle_in_transaction_session_timeout;
ROLLBACK;

-- Whoever holds the gate cannot prepare the transaction.
BEGIN;
SELECT generation FROM refold.rebuild_projection('cart');
PREPARE TRANSACTION 'rebuilt';
BEGIN;
SELECT refold.lock_gate();
PREPARE TRANSACTION 'locked';

-- Another kind of handler, another table.
CREATE TABLE basket (LIKE cart INCLUDING ALL);
CREATE FUNCTION fold_basket(state basket, event refold.event) RETURNS basket LANGUAGE sql AS $$ SELECT NULL::basket $$;
CREATE FUNCTION on_cart(event refold.event) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION on_carts(events refold.event[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION no_handler(event refold.event) RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT refold.rebuild_projection('cart', 'fold_basket(basket, refold.event)');
SELECT refold.rebuild_projection('cart', 'on_cart(refold.event)');
SELECT refold.rebuild_projection('cart', 'on_carts(refold.event[])');
SELECT refold.rebuild_projection('cart', 'no_handler(refold.event)');
SELECT refold.rebuild_projection('cart', 'missing(refold.event)');

-- A statement cancelled in a replay.
CREATE FUNCTION fold_cart_slow(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_sleep(60);
  RETURN state;
END
$$;
UPDATE cart SET items = 9;
SET statement_timeout = 200;
\set SHOW_CONTEXT never
SELECT refold.rebuild_projection('cart', 'fold_cart_slow(cart, refold.event)');
\set SHOW_CONTEXT errors
RESET statement_timeout;
SELECT * FROM cart;
SELECT name, state, generation, handler, rebuilding_pid FROM refold.projections;
SELECT * FROM refold.rebuild_progress;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'refold_copy%';
SELECT refold.append_event('c-1', 'added', '1');
SELECT generation, rows_updated FROM refold.rebuild_projection('cart');
SELECT * FROM cart;

-- A table that has changed into none that can be a read model; a table and a handler that are gone.
ALTER TABLE cart DROP CONSTRAINT cart_pkey;
SELECT refold.rebuild_projection('cart');
\set SHOW_CONTEXT never
SELECT refold.append_event('c-1', 'added', '1');
ALTER TABLE cart ADD PRIMARY KEY (cart_id);
SELECT refold.append_event('c-1', 'added', '1');
SELECT generation, rows_updated FROM refold.rebuild_projection('cart');
CREATE FUNCTION fold_cart_other(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$ SELECT state $$;
DROP FUNCTION fold_cart(cart, refold.event);
SELECT state, handler FROM refold.projections;
\set VERBOSITY terse
DO $$
BEGIN
  PERFORM refold.append_event('c-1', 'added', '1');
EXCEPTION WHEN OTHERS THEN
  RAISE NOTICE '% %', SQLSTATE, regexp_replace(SQLERRM, '\d+', 'N');
END
$$;
DO $$
BEGIN
  PERFORM refold.rebuild_projection('cart');
EXCEPTION WHEN OTHERS THEN
  RAISE NOTICE '% %', SQLSTATE, regexp_replace(SQLERRM, '\d+', 'N');
END
$$;
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.items, 0) + 1, NULL
$$;
SELECT generation, rows_updated FROM refold.rebuild_projection('cart', 'fold_cart(cart, refold.event)');
SELECT state, handler FROM refold.projections;
DROP TABLE cart CASCADE;
SELECT name, state, handler, array_length(tables, 1) FROM refold.projections;
DO $$
BEGIN
  PERFORM refold.append_event('c-1', 'added', '1');
EXCEPTION WHEN OTHERS THEN
  RAISE NOTICE '% %', SQLSTATE, regexp_replace(SQLERRM, '\d+', 'N');
END
$$;
SELECT refold.drop_projection('cart');
SELECT refold.append_event('c-1', 'added', '1');
