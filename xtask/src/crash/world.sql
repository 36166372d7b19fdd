-- What the crashes hit: a projection of each kind, with tables that have second indexes, long values and many rows.

CREATE EXTENSION refold;
CREATE EXTENSION amcheck;
-- The names of the waitpoints that are compiled in.
CREATE FUNCTION waitpoints() RETURNS text[] LANGUAGE c AS '$libdir/refold', 'refold_waitpoints';

CREATE TABLE cart (cart_id text PRIMARY KEY, items bigint NOT NULL, note text);
ALTER TABLE cart ALTER note SET STORAGE EXTERNAL;
CREATE INDEX cart_items ON cart (items);
-- Of each handler there are two, whose models differ in every row.
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT ROW(event.stream_id, coalesce(state.items, 0) + (event.data->>'n')::bigint,
             coalesce(event.data->>'note', state.note))::cart
$$;
CREATE FUNCTION fold_cart_twice(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT ROW(event.stream_id, coalesce(state.items, 0) + 2 * (event.data->>'n')::bigint,
             coalesce(event.data->>'note', state.note))::cart
$$;

CREATE TABLE visit (stream_id text PRIMARY KEY, visits bigint NOT NULL, seen bigint NOT NULL UNIQUE);
CREATE TABLE visit_line (stream_id text, stream_version bigint, n bigint NOT NULL, PRIMARY KEY (stream_id, stream_version));
CREATE INDEX visit_line_n ON visit_line (n);
CREATE FUNCTION add_visit(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO visit AS v VALUES (event.stream_id, 1, event.position)
  ON CONFLICT (stream_id) DO UPDATE SET visits = v.visits + 1, seen = excluded.seen;
  INSERT INTO visit_line VALUES (event.stream_id, event.stream_version, (event.data->>'n')::bigint);
$$;
CREATE FUNCTION add_visit_twice(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO visit AS v VALUES (event.stream_id, 2, event.position)
  ON CONFLICT (stream_id) DO UPDATE SET visits = v.visits + 2, seen = excluded.seen;
  INSERT INTO visit_line VALUES (event.stream_id, event.stream_version, 2 * (event.data->>'n')::bigint);
$$;

CREATE TABLE sale (sku text PRIMARY KEY, sold bigint NOT NULL);
CREATE INDEX sale_sold ON sale (sold);
CREATE FUNCTION add_sales(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO sale AS s SELECT e.data->>'sku', sum((e.data->>'n')::bigint) FROM unnest(events) AS e GROUP BY 1
  ON CONFLICT (sku) DO UPDATE SET sold = s.sold + excluded.sold
$$;
CREATE FUNCTION add_sales_twice(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO sale AS s SELECT e.data->>'sku', 2 * sum((e.data->>'n')::bigint) FROM unnest(events) AS e GROUP BY 1
  ON CONFLICT (sku) DO UPDATE SET sold = s.sold + excluded.sold
$$;

-- Comes and goes.
CREATE TABLE extra (LIKE cart INCLUDING ALL);
CREATE FUNCTION fold_extra(state extra, event refold.event) RETURNS extra LANGUAGE sql AS $$
  SELECT ROW(event.stream_id, coalesce(state.items, 0) + 1, NULL)::extra
$$;

SELECT refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT refold.create_projection('visit', 'add_visit(refold.event)', '{visit, visit_line}');
SELECT refold.create_projection('sale', 'add_sales(refold.event[])', '{sale}');
