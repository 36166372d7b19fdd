CREATE EXTENSION refold;

-- Whatever refuses an event, the context names projection, type, stream and position.
CREATE TABLE cart (cart_id text PRIMARY KEY, n int NOT NULL);
CREATE FUNCTION cart_key(event refold.event) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF event.event_type = 'keyless' THEN
    RAISE EXCEPTION 'no key';
  END IF;
  RETURN event.stream_id;
END
$$;
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.data ->> 'key', (event.data ->> 'n')::int
$$;
SELECT generation FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)', key => 'cart_key(refold.event)');
-- The key function, which runs before the position is drawn.
SELECT refold.append_event('c-1', 'keyless', '{}');
-- A row of another key.
SELECT refold.append_event('c-1', 'added', '{"key": "c-2", "n": 1}');
-- A constraint of the table.
SELECT refold.append_event('c-1', 'added', '{"key": "c-1"}');
