CREATE EXTENSION refold;
CREATE EXTENSION plpython3u;

-- One set-based statement for each append, whatever the number of its events; in SQL, PL/pgSQL and PL/Python.
CREATE TABLE stock (item text PRIMARY KEY, quantity bigint NOT NULL CHECK (quantity < 1000), batches int NOT NULL);
CREATE FUNCTION on_stock(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO stock AS s (item, quantity, batches)
    SELECT e.data ->> 'item', sum((e.data ->> 'n')::bigint), 0 FROM unnest(events) AS e GROUP BY 1
    ON CONFLICT (item) DO UPDATE SET quantity = s.quantity + EXCLUDED.quantity;
$$;
CREATE TABLE stock_plpgsql (LIKE stock INCLUDING ALL);
CREATE FUNCTION on_stock_plpgsql(events refold.event[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  event refold.event;
BEGIN
  FOREACH event IN ARRAY events LOOP
    INSERT INTO stock_plpgsql AS s VALUES (event.data ->> 'item', (event.data ->> 'n')::bigint, 0)
      ON CONFLICT (item) DO UPDATE SET quantity = s.quantity + EXCLUDED.quantity;
  END LOOP;
END
$$;
CREATE TABLE stock_python (LIKE stock INCLUDING ALL);
CREATE FUNCTION on_stock_python(events refold.event[]) RETURNS void LANGUAGE plpython3u AS $$
import json
sums = {}
for event in events:
    data = json.loads(event["data"])
    sums[data["item"]] = sums.get(data["item"], 0) + data["n"]
for item, n in sums.items():
    plan = plpy.prepare("INSERT INTO stock_python AS s VALUES ($1, $2, 0) "
                        "ON CONFLICT (item) DO UPDATE SET quantity = s.quantity + EXCLUDED.quantity", ["text", "bigint"])
    plpy.execute(plan, [item, n])
$$;
SELECT generation FROM refold.create_projection('stock', 'on_stock(refold.event[])', '{stock}', '{moved}');
SELECT generation FROM refold.create_projection('stock plpgsql', 'on_stock_plpgsql(refold.event[])', '{stock_plpgsql}', '{moved}');
SELECT generation FROM refold.create_projection('stock python', 'on_stock_python(refold.event[])', '{stock_python}', '{moved}');
SELECT refold.append_event('shelf-1', 'moved', '{"item": "tea", "n": 5}');
SELECT refold.append_event('shelf-1', 'painted', '{"colour": "red"}');
SELECT refold.append_events('shelf-2', '[
  {"type": "moved", "data": {"item": "tea", "n": 10}}, {"type": "painted", "data": {}},
  {"type": "moved", "data": {"item": "jam", "n": 3}}, {"type": "moved", "data": {"item": "tea", "n": -2}}]');
SELECT * FROM stock ORDER BY item;
TABLE stock EXCEPT TABLE stock_plpgsql;
TABLE stock EXCEPT TABLE stock_python;
-- One handler refuses, so nothing is appended and no other model has changed.
\set SHOW_CONTEXT never
SELECT refold.append_event('shelf-2', 'moved', '{"item": "jam", "n": 4000}');
\set SHOW_CONTEXT errors
SELECT count(*) FROM refold.event;
SELECT * FROM refold.verify_projection('stock');
SELECT * FROM refold.verify_projection('stock plpgsql');
SELECT * FROM refold.verify_projection('stock python');
SELECT projection, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('stock');
SELECT projection, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('stock plpgsql');
SELECT projection, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('stock python');

-- A batch comes in the order of the log, with all columns of its events.
CREATE TABLE journal (at bigint PRIMARY KEY, ordinal bigint, stream_id text, stream_version bigint, event_type text, data jsonb,
  metadata jsonb, event_id uuid, recorded_at timestamptz, ready boolean);
CREATE FUNCTION on_journal(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO journal SELECT e.position, 0, e.stream_id, e.stream_version, e.event_type, e.data, e.metadata, e.event_id, e.recorded_at,
    e.horizon IS NOT NULL AND e.position > coalesce(lag(e.position) OVER (ORDER BY e.ordinality), 0)
    FROM unnest(events) WITH ORDINALITY AS e;
$$;
SELECT events_replayed, rows_inserted FROM refold.create_projection('journal', 'on_journal(refold.event[])', '{journal}');
SELECT refold.append_events('shelf-2', '[{"type": "x", "data": null}, {"type": "y", "data": [1], "metadata": {"by": "ann"}}]');
SELECT count(*), bool_and(ready) FROM journal;
SELECT j.at, j.stream_id, j.stream_version, j.event_type, j.data, j.metadata FROM journal AS j WHERE j.event_type IN ('x', 'y') ORDER BY j.at;
SELECT count(*) FROM journal AS j JOIN refold.event AS e ON (j.at, j.stream_id, j.stream_version, j.event_type, j.data, j.metadata,
  j.event_id, j.recorded_at) = (e.position, e.stream_id, e.stream_version, e.event_type, e.data, e.metadata, e.event_id, e.recorded_at);
SELECT * FROM refold.verify_projection('journal');
SELECT projection, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('journal');

-- No events of its types: the handler is not called.
CREATE TABLE nothing (id int PRIMARY KEY);
CREATE FUNCTION on_nothing(events refold.event[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'called with % events', coalesce(array_length(events, 1), 0);
END
$$;
SELECT events_replayed, rows_inserted FROM refold.create_projection('nothing', 'on_nothing(refold.event[])', '{nothing}', '{unheard of}');
SELECT refold.append_events('s', '[{"type": "x", "data": 1}, {"type": "y", "data": 1}]');
\set SHOW_CONTEXT never
SELECT refold.append_events('s', '[{"type": "x", "data": 1}, {"type": "unheard of", "data": 1}, {"type": "unheard of", "data": 1}]');
\set SHOW_CONTEXT errors
SELECT * FROM refold.verify_projection('nothing');
