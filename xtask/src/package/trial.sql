-- What a packaged refold must do on a clean system.
CREATE EXTENSION refold;
CREATE TABLE cart (cart_id text PRIMARY KEY, items int NOT NULL);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS
  $$ SELECT ROW(event.stream_id, coalesce(state.items, 0) + 1)::cart $$;
SELECT refold.append_event('cart-1', 'item_added', '{}');
SELECT refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT refold.append_event('cart-1', 'item_added', '{}');
SELECT refold.rebuild_projection('cart');
CALL refold.rebuild_projection_concurrently('cart');
DO $$
BEGIN
  ASSERT (SELECT items FROM cart) = 2, 'the model is not what the log says';
  ASSERT NOT EXISTS (SELECT FROM refold.verify_projection('cart')), 'the model is not what the log says';
  ASSERT (SELECT generation FROM refold.projections) = 3, 'it was not rebuilt twice';
END $$;
