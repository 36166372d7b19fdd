CREATE EXTENSION refold;

-- A composite key, by a function with OUT parameters; NULL in either column leaves the event out.
CREATE TABLE sales (shop int, item text, sold bigint NOT NULL, PRIMARY KEY (shop, item));
CREATE FUNCTION sales_key(event refold.event, OUT shop int, OUT item text) LANGUAGE sql IMMUTABLE AS $$
  SELECT (event.data ->> 'shop')::int, event.data ->> 'item'
$$;
CREATE FUNCTION fold_sales(state sales, event refold.event) RETURNS sales LANGUAGE plpgsql AS $$
BEGIN
  IF event.event_type = 'withdrawn' THEN
    RETURN NULL;
  END IF;
  state.shop := event.data ->> 'shop';
  state.item := event.data ->> 'item';
  state.sold := coalesce(state.sold, 0) + 1;
  RETURN state;
END
$$;
SELECT generation FROM refold.create_projection('sales', 'fold_sales(sales, refold.event)', key => 'sales_key(refold.event)');
SELECT refold.append_event('till-1', 'sold', '{"shop": 1, "item": "tea"}');
SELECT refold.append_event('till-2', 'sold', '{"shop": 1, "item": "tea"}');
SELECT refold.append_events('till-1', '[
  {"type": "sold", "data": {"shop": 2, "item": "tea"}},
  {"type": "sold", "data": {"shop": 1, "item": "tea"}},
  {"type": "sold", "data": {"shop": 1, "item": "tea"}},
  {"type": "sold", "data": {"shop": 2, "item": "tea"}},
  {"type": "sold", "data": {"shop": 2}},
  {"type": "sold", "data": {"item": "tea"}},
  {"type": "sold", "data": {"shop": 3, "item": "rum"}},
  {"type": "withdrawn", "data": {"shop": 3, "item": "rum"}}]');
SELECT * FROM sales ORDER BY shop, item;
SELECT * FROM refold.verify_projection('sales');
SELECT projection, generation, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('sales');

-- A composite key, by a function that returns a composite type; the columns' order is the primary key's, not the
-- table's.
CREATE TYPE place AS (country text, town text);
CREATE TABLE visits (town text, n int, country text, PRIMARY KEY (country, town));
CREATE FUNCTION place_of(event refold.event) RETURNS place LANGUAGE plpgsql AS $$
BEGIN
  IF event.data ->> 'town' = 'nowhere' THEN
    RETURN NULL;
  END IF;
  RETURN ROW(event.data ->> 'country', event.data ->> 'town')::place;
END
$$;
CREATE FUNCTION fold_visits(state visits, event refold.event) RETURNS visits LANGUAGE sql AS $$
  SELECT ROW(event.data ->> 'town', coalesce(state.n, 0) + 1, event.data ->> 'country')::visits
$$;
SELECT generation FROM refold.create_projection('visits', 'fold_visits(visits, refold.event)', key => 'place_of(refold.event)', event_types => '{visited}');
SELECT refold.append_event('ann', 'visited', '{"country": "fr", "town": "Paris"}');
SELECT refold.append_event('bob', 'visited', '{"country": "us", "town": "Paris"}');
SELECT refold.append_event('eve', 'visited', '{"country": "fr", "town": "Paris"}');
SELECT refold.append_event('eve', 'visited', '{"country": "fr", "town": "nowhere"}');
SELECT * FROM visits ORDER BY country;
SELECT * FROM refold.verify_projection('visits');
SELECT projection, generation, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('visits');

-- A single uuid.
CREATE TABLE person (person_id uuid PRIMARY KEY, name text);
CREATE FUNCTION person_of(event refold.event) RETURNS uuid LANGUAGE sql AS $$ SELECT (event.data ->> 'id')::uuid $$;
CREATE FUNCTION fold_person(state person, event refold.event) RETURNS person LANGUAGE sql AS $$
  SELECT ROW((event.data ->> 'id')::uuid, event.data ->> 'name')::person
$$;
SELECT generation FROM refold.create_projection('person', 'fold_person(person, refold.event)', key => 'person_of(refold.event)', event_types => '{named}');
SELECT refold.append_event('p', 'named', '{"id": "00000000-0000-0000-0000-00000000000a", "name": "Ann"}');
SELECT refold.append_event('q', 'named', '{"id": "00000000-0000-0000-0000-00000000000A", "name": "Anna"}');
SELECT refold.append_event('p', 'named', '{"name": "nobody"}');
SELECT * FROM person;
SELECT * FROM refold.verify_projection('person');

-- Keys that are equal without looking alike are one row: the numeric 1.0 and 1.00, text under a collation that ignores
-- case.
CREATE TABLE by_number (n numeric PRIMARY KEY, events int);
CREATE FUNCTION number_of(event refold.event) RETURNS numeric LANGUAGE sql AS $$ SELECT (event.data ->> 'n')::numeric $$;
CREATE FUNCTION fold_number(state by_number, event refold.event) RETURNS by_number LANGUAGE sql AS $$
  SELECT ROW(coalesce(state.n, (event.data ->> 'n')::numeric), coalesce(state.events, 0) + 1)::by_number
$$;
SELECT generation FROM refold.create_projection('by_number', 'fold_number(by_number, refold.event)', key => 'number_of(refold.event)', event_types => '{n}');
SELECT refold.append_event('n', 'n', '{"n": 1.0}');
SELECT refold.append_events('n', '[{"type": "n", "data": {"n": 1.00}}, {"type": "n", "data": {"n": 1}}]');
SELECT * FROM by_number;
SELECT * FROM refold.verify_projection('by_number');
SELECT projection, generation, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('by_number');

-- The key of an enum, a domain and a date.
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN room AS int CHECK (VALUE > 0);
CREATE TABLE moods (m mood, r room, d date, n int, PRIMARY KEY (m, r, d));
CREATE FUNCTION mood_key(event refold.event, OUT m mood, OUT r room, OUT d date) LANGUAGE sql AS $$
  SELECT (event.data ->> 'm')::mood, (event.data ->> 'r')::room, (event.data ->> 'd')::date
$$;
CREATE FUNCTION fold_moods(state moods, event refold.event) RETURNS moods LANGUAGE sql AS $$
  SELECT ROW(k.*, coalesce(state.n, 0) + 1)::moods FROM mood_key(event) AS k
$$;
SELECT generation FROM refold.create_projection('moods', 'fold_moods(moods, refold.event)', key => 'mood_key(refold.event)', event_types => '{felt}');
SELECT refold.append_events('ann', '[{"type": "felt", "data": {"m": "sad", "r": 1, "d": "2026-01-02"}},
  {"type": "felt", "data": {"m": "happy", "r": 1, "d": "2026-01-02"}}]');
SELECT refold.append_event('bob', 'felt', '{"m": "sad", "r": 1, "d": "2026-01-02"}');
SELECT m, r, d = '2026-01-02' AS d, n FROM moods ORDER BY m;
\set SHOW_CONTEXT never
SELECT refold.append_event('bob', 'felt', '{"m": "sad", "r": 0, "d": "2026-01-02"}');
\set SHOW_CONTEXT errors
SELECT * FROM refold.verify_projection('moods');

-- A varchar key is a stream's name too.
CREATE TABLE short (id varchar(5) PRIMARY KEY, n int);
CREATE FUNCTION fold_short(state short, event refold.event) RETURNS short LANGUAGE sql AS $$
  SELECT ROW(event.stream_id, coalesce(state.n, 0) + 1)::short
$$;
SELECT generation FROM refold.create_projection('short', 'fold_short(short, refold.event)', event_types => '{s}');
SELECT refold.append_event('12345', 's', '{}');
SELECT refold.append_event('123456', 's', '{}');
SELECT refold.append_event('12345', 's', '{}');
SELECT * FROM short;
SELECT * FROM refold.verify_projection('short');
SELECT projection, generation, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('short');
