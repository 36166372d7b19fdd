-- What a subscriber makes of the log that it follows: a model of each kind, most of which the order of the events shows in,
-- and two of which are fed by several streams. Of each handler there are two, which write another separator or twice the count.
CREATE EXTENSION refold;
CREATE TABLE cart (cart_id text PRIMARY KEY, history text NOT NULL);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT ROW(event.stream_id, concat(state.history || ',', event.data->>'n'))::cart
$$;
CREATE FUNCTION fold_cart_new(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT ROW(event.stream_id, concat(state.history || ';', event.data->>'n'))::cart
$$;

CREATE TABLE sku (sku text PRIMARY KEY, history text NOT NULL);
CREATE FUNCTION sku_of(event refold.event) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT event.data->>'sku' $$;
CREATE FUNCTION fold_sku(state sku, event refold.event) RETURNS sku LANGUAGE sql AS $$
  SELECT ROW(event.data->>'sku', concat(state.history || ',', event.data->>'n'))::sku
$$;
CREATE FUNCTION fold_sku_new(state sku, event refold.event) RETURNS sku LANGUAGE sql AS $$
  SELECT ROW(event.data->>'sku', concat(state.history || ';', event.data->>'n'))::sku
$$;

CREATE TABLE journal (line bigint PRIMARY KEY, entry text NOT NULL);
CREATE FUNCTION note(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO journal SELECT coalesce(max(j.line), 0) + 1, format('%s@%s', event.stream_id, event.stream_version) FROM journal AS j
$$;
CREATE FUNCTION note_new(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO journal SELECT coalesce(max(j.line), 0) + 1, format('%s;%s', event.stream_id, event.stream_version) FROM journal AS j
$$;

CREATE TABLE tally (sku text PRIMARY KEY, n bigint NOT NULL, factor bigint NOT NULL);
CREATE FUNCTION add_tally(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO tally AS t SELECT e.data->>'sku', count(*), 1 FROM unnest(events) AS e GROUP BY 1
  ON CONFLICT (sku) DO UPDATE SET n = t.n + excluded.n
$$;
CREATE FUNCTION add_tally_twice(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO tally AS t SELECT e.data->>'sku', 2 * count(*), 2 FROM unnest(events) AS e GROUP BY 1
  ON CONFLICT (sku) DO UPDATE SET n = t.n + excluded.n
$$;
