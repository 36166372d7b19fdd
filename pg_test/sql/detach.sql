-- DROP EXTENSION takes the log with it, unless the log is detached before: then it is an ordinary table, and can be brought
-- into a new store.
CREATE EXTENSION refold;
CREATE TABLE cart (cart_id text PRIMARY KEY, n int);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS
  $$ SELECT ROW(event.stream_id, coalesce(state.n, 0) + 1)::cart $$;
SELECT generation FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT refold.append_events('c1', '[{"type": "a", "data": 1}, {"type": "b", "data": 2}]');

-- A handler takes an event, so nobody drops the extension by accident.
DROP EXTENSION refold;

BEGIN;
ALTER EXTENSION refold DROP TABLE refold.event;
ALTER EXTENSION refold DROP SEQUENCE refold.event_position_seq;
DROP TRIGGER admit ON refold.event;
DROP TRIGGER apply ON refold.event;
DROP TRIGGER immutable ON refold.event;
DROP TRIGGER admit_replicated ON refold.event;
DROP TRIGGER apply_replicated ON refold.event;
ALTER TABLE refold.event SET SCHEMA public;
DROP EXTENSION refold;
COMMIT;
SELECT position, stream_id, stream_version, event_type, data FROM public.event ORDER BY position;
TABLE cart;
DELETE FROM public.event WHERE false;

-- Into a new store: as a restore does, before its first append or command.
DROP FUNCTION fold_cart;
CREATE EXTENSION refold;
INSERT INTO refold.event OVERRIDING SYSTEM VALUE SELECT * FROM public.event;
DROP TABLE public.event, cart;
CREATE TABLE cart (cart_id text PRIMARY KEY, n int);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS
  $$ SELECT ROW(event.stream_id, coalesce(state.n, 0) + 1)::cart $$;
SELECT events_replayed FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT * FROM refold.append_event('c1', 'c', '3');
TABLE cart;
SELECT * FROM refold.verify_projection('cart');
INSERT INTO refold.event OVERRIDING SYSTEM VALUE SELECT * FROM refold.event;
