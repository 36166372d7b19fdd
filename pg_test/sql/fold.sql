CREATE EXTENSION refold;

-- A fold: its state is a row of the table, NULL in is no row yet, NULL out deletes the row.
CREATE TABLE cart (cart_id text PRIMARY KEY, items int NOT NULL, last_item text);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
  IF event.event_type = 'closed' THEN
    RETURN NULL;
  END IF;
  state.cart_id := event.stream_id;
  state.items := coalesce(state.items, 0) + (event.data ->> 'count')::int;
  state.last_item := event.data ->> 'item';
  RETURN state;
END
$$;
SELECT projection, generation, events_replayed, events_under_gate, rows_inserted, rows_updated, rows_deleted
  FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');

SELECT refold.append_event('cart-1', 'added', '{"item": "tea", "count": 1}');
SELECT refold.append_event('cart-2', 'added', '{"item": "rum", "count": 5}');
SELECT refold.append_event('cart-1', 'added', '{"item": "jam", "count": 2}');
SELECT * FROM cart ORDER BY cart_id;

-- Several events of one key in one batch.
SELECT refold.append_events('cart-3', '[
  {"type": "added", "data": {"item": "a", "count": 1}},
  {"type": "added", "data": {"item": "b", "count": 10}},
  {"type": "added", "data": {"item": "c", "count": 100}}]');
SELECT * FROM cart WHERE cart_id = 'cart-3';

-- Deleted, created again, and all of it in one batch.
SELECT refold.append_event('cart-2', 'closed', '{}');
SELECT * FROM cart ORDER BY cart_id;
SELECT refold.append_event('cart-2', 'closed', '{}');
SELECT refold.append_event('cart-2', 'added', '{"item": "new", "count": 7}');
SELECT refold.append_events('cart-4', '[
  {"type": "added", "data": {"item": "a", "count": 1}},
  {"type": "closed", "data": {}},
  {"type": "added", "data": {"item": "b", "count": 3}}]');
SELECT refold.append_events('cart-5', '[
  {"type": "added", "data": {"item": "a", "count": 1}},
  {"type": "closed", "data": {}}]');
SELECT * FROM cart ORDER BY cart_id;
SELECT * FROM refold.verify_projection('cart');
SELECT projection, generation, events_replayed, events_under_gate, rows_inserted, rows_updated, rows_deleted
  FROM refold.rebuild_projection('cart');

-- A row of another key than the event's is refused, inline and in a replay, and nothing is written.
\set SHOW_CONTEXT never
CREATE FUNCTION fold_astray(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT ROW('cart-1', 1, event.data ->> 'item')::cart
$$;
SELECT refold.rebuild_projection('cart', 'fold_astray(cart, refold.event)');
SELECT * FROM refold.verify_projection('cart');
SELECT handler, generation, state FROM refold.projections;
SELECT refold.drop_projection('cart');
CREATE TABLE keyed (cart_id text PRIMARY KEY, items int NOT NULL);
CREATE FUNCTION fold_keyed(state keyed, event refold.event) RETURNS keyed LANGUAGE plpgsql AS $$
BEGIN
  state.items := coalesce(state.items, 0) + 1;
  IF event.event_type <> 'keyless' THEN
    state.cart_id := coalesce(event.data ->> 'key', event.stream_id);
  END IF;
  RETURN state;
END
$$;
SELECT generation FROM refold.create_projection('keyed', 'fold_keyed(keyed, refold.event)', event_types => '{keyed,keyless}');
SELECT refold.append_event('cart-7', 'keyless', '{}');
SELECT refold.append_event('cart-7', 'keyed', '{"key": "cart-8"}');
SELECT refold.append_event('cart-7', 'keyed', '{}');
SELECT refold.append_event('cart-7', 'keyed', '{"key": "cart-8"}');
SELECT refold.append_event('cart-8', 'keyed', '{"key": "cart-7"}');
SELECT stream_id, stream_version FROM refold.read_stream('cart-7');
SELECT * FROM keyed;
SELECT * FROM refold.verify_projection('keyed');

\set SHOW_CONTEXT errors
-- Only the event types asked for, each named once.
CREATE TABLE opened (account text PRIMARY KEY, times int NOT NULL);
CREATE FUNCTION fold_opened(state opened, event refold.event) RETURNS opened LANGUAGE sql AS $$
  SELECT ROW(event.stream_id, coalesce(state.times, 0) + 1)::opened
$$;
SELECT projection, generation, events_replayed, rows_inserted
  FROM refold.create_projection('opened', 'fold_opened(opened, refold.event)', event_types => '{opened,re-opened,opened}');
SELECT refold.append_event('account-1', 'opened', '{}');
SELECT refold.append_event('account-1', 'closed', '{}');
SELECT refold.append_events('account-1', '[{"type": "closed", "data": 0}, {"type": "re-opened", "data": 0}]');
SELECT refold.append_event('account-2', 'Opened', '{}');
SELECT * FROM opened;
SELECT event_types FROM refold.projections WHERE name = 'opened';
SELECT * FROM refold.verify_projection('opened');
SELECT events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('opened');

-- A default is for rows that an INSERT leaves it to; a fold returns whole rows.
CREATE TABLE defaults (id text PRIMARY KEY, status text DEFAULT 'new', seen int DEFAULT 1);
CREATE FUNCTION fold_defaults(state defaults, event refold.event) RETURNS defaults LANGUAGE plpgsql AS $$
BEGIN
  state.id := event.stream_id;
  state.seen := coalesce(state.seen, 0) + 1;
  RETURN state;
END
$$;
SELECT generation FROM refold.create_projection('defaults', 'fold_defaults(defaults, refold.event)', event_types => '{seen}');
SELECT refold.append_event('d-1', 'seen', '{}');
SELECT * FROM defaults;
SELECT * FROM refold.verify_projection('defaults');
SELECT events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('defaults');

-- A fold in PL/Python.
CREATE EXTENSION plpython3u;
CREATE TABLE tally (id text PRIMARY KEY, n int, names text[]);
CREATE FUNCTION fold_tally(state tally, event refold.event) RETURNS tally LANGUAGE plpython3u AS $$
import json
if event["event_type"] == "forget":
    return None
row = state or {"id": event["stream_id"], "n": 0, "names": []}
row["n"] += 1
row["names"].append(json.loads(event["data"])["name"])
return row
$$;
SELECT generation FROM refold.create_projection('tally', 'fold_tally(tally, refold.event)', event_types => '{named,forget}');
SELECT refold.append_event('t-1', 'named', '{"name": "Ann"}');
SELECT refold.append_event('t-2', 'named', '{"name": "Eve"}');
SELECT refold.append_events('t-1', '[{"type": "named", "data": {"name": "Bob"}}, {"type": "named", "data": {"name": "Käthe"}}]');
SELECT refold.append_event('t-2', 'forget', '{}');
SELECT * FROM tally ORDER BY id;
SELECT * FROM refold.verify_projection('tally');
SELECT events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('tally');
