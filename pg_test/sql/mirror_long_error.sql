-- An error of a mirrored handler that is larger than any memory that PostgreSQL keeps when a subtransaction ends: what is
-- recorded of it is the error itself.
CREATE EXTENSION refold;

CREATE TABLE cart (cart_id text PRIMARY KEY, n int);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  IF event.event_type = 'bad for old' THEN
    RAISE EXCEPTION USING ERRCODE = 'CA001', MESSAGE = repeat('m', 3000000), DETAIL = repeat('d', 3000000);
  END IF;
  RETURN ROW(event.stream_id, coalesce(state.n, 0) + 1);
END $$;
CREATE FUNCTION fold_cart_2(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 10
$$;
SELECT generation FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT stream_version FROM refold.append_event('c-1', 'added', '{}');
CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_2(cart, refold.event)', grace => '1 day');
SELECT stream_version FROM refold.append_event('c-1', 'bad for old', '{}');
SELECT event_type, sqlstate, message = repeat('m', 3000000) AS message, detail = repeat('d', 3000000) AS detail
  FROM refold.mirror_failure;
TABLE cart;
SELECT refold.finish_rebuild('cart');
