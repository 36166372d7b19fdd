CREATE EXTENSION refold;

-- A second unique key: a rebuild swaps two unique values, and the keys and constraints hold for the handler meanwhile.
CREATE TABLE seat (person text PRIMARY KEY, seat int NOT NULL CONSTRAINT one_each UNIQUE, row_name text,
  EXCLUDE USING btree (row_name WITH =) WHERE (row_name IS NOT NULL));
CREATE FUNCTION on_seat(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO seat VALUES (event.stream_id, (event.data ->> 'seat')::int, event.data ->> 'row');
END
$$;
SELECT generation FROM refold.create_projection('seat', 'on_seat(refold.event)', '{seat}', '{sat}');
SELECT refold.append_event('ann', 'sat', '{"seat": 1, "row": "a"}');
SELECT refold.append_event('bob', 'sat', '{"seat": 2, "row": "b"}');
SELECT refold.append_event('eve', 'sat', '{"seat": 3}');
\set SHOW_CONTEXT never
SELECT refold.append_event('zoe', 'sat', '{"seat": 3}');
SELECT refold.append_event('zoe', 'sat', '{"seat": 4, "row": "a"}');
\set SHOW_CONTEXT errors
SELECT * FROM refold.verify_projection('seat');
CREATE FUNCTION on_seat_swapped(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO seat VALUES (event.stream_id, CASE event.data ->> 'seat' WHEN '1' THEN 2 WHEN '2' THEN 1 ELSE 3 END,
    translate(event.data ->> 'row', 'ab', 'ba'));
END
$$;
SELECT generation, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('seat', 'on_seat_swapped(refold.event)');
SELECT * FROM seat ORDER BY person;
SELECT * FROM refold.verify_projection('seat');
-- A rebuild that would break a unique key fails, and nothing has changed.
CREATE FUNCTION on_seat_clash(event refold.event) RETURNS void LANGUAGE sql AS $$ INSERT INTO seat VALUES (event.stream_id, 1) $$;
DO $$
BEGIN
  PERFORM refold.rebuild_projection('seat', 'on_seat_clash(refold.event)');
EXCEPTION WHEN unique_violation THEN
  RAISE NOTICE 'refused with %', SQLSTATE;
END
$$;
SELECT * FROM seat ORDER BY person;
SELECT generation, handler FROM refold.projections;

-- A fold with a second unique key.
CREATE TABLE login (person text PRIMARY KEY, name text UNIQUE);
CREATE FUNCTION fold_login(state login, event refold.event) RETURNS login LANGUAGE sql AS $$
  SELECT ROW(event.stream_id, event.data ->> 'name')::login
$$;
SELECT generation FROM refold.create_projection('login', 'fold_login(login, refold.event)', event_types => '{named}');
SELECT refold.append_event('ann', 'named', '{"name": "a"}');
SELECT refold.append_event('bob', 'named', '{"name": "b"}');
\set SHOW_CONTEXT never
SELECT refold.append_event('zoe', 'named', '{"name": "b"}');
\set SHOW_CONTEXT errors
UPDATE login SET name = 'c' WHERE person = 'ann';
UPDATE login SET name = 'a' WHERE person = 'bob';
UPDATE login SET name = 'b' WHERE person = 'ann';
SELECT * FROM refold.verify_projection('login') ORDER BY key;
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('login');
SELECT * FROM login ORDER BY person;
