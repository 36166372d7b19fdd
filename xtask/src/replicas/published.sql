-- Two read models that are published, and for each a second handler whose rows differ in every column that is no key.
CREATE EXTENSION refold;
CREATE TABLE cart (cart_id text PRIMARY KEY, items bigint NOT NULL, logic int NOT NULL);
CREATE TABLE line (stream_id text, stream_version bigint, n bigint NOT NULL, logic int NOT NULL, PRIMARY KEY (stream_id, stream_version));

CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT ROW(event.stream_id, coalesce(state.items, 0) + (event.data->>'n')::bigint, 1)::cart
$$;
CREATE FUNCTION fold_cart_twice(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT ROW(event.stream_id, coalesce(state.items, 0) + 2 * (event.data->>'n')::bigint, 2)::cart
$$;
CREATE FUNCTION add_line(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO line VALUES (event.stream_id, event.stream_version, (event.data->>'n')::bigint, 1)
$$;
CREATE FUNCTION add_line_twice(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO line VALUES (event.stream_id, event.stream_version, 2 * (event.data->>'n')::bigint, 2)
$$;
SELECT refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT refold.create_projection('line', 'add_line(refold.event)', '{line}');

SELECT refold.append_events(format('seed-%s', s),
    (SELECT jsonb_agg(jsonb_build_object('type', 'sold', 'data', jsonb_build_object('n', n))) FROM generate_series(1, 20) AS n))
  FROM generate_series(1, 50) AS s;
