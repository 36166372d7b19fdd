-- What goes on while an extension is upgraded.
CREATE TABLE cart (cart_id text PRIMARY KEY, n bigint NOT NULL);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS
  $$ SELECT ROW(event.stream_id, coalesce(state.n, 0) + 1)::cart $$;
CREATE TABLE tally (event_type text PRIMARY KEY, n bigint NOT NULL);
CREATE FUNCTION add_tally(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO tally AS t SELECT e.event_type, count(*) FROM unnest(events) AS e GROUP BY 1
  ON CONFLICT (event_type) DO UPDATE SET n = t.n + excluded.n
$$;
SELECT refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT refold.create_projection('tally', 'add_tally(refold.event[])', '{tally}', serial => true);
SELECT refold.append_events('cart-' || s, '[{"type": "added", "data": {}}, {"type": "removed", "data": {}}]') FROM generate_series(1, 500) AS s;
