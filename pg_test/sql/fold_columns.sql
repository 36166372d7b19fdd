CREATE EXTENSION refold;

-- Columns of many types come back as they were, inline and in a replay.
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE DOMAIN percent AS numeric(5,2) CHECK (VALUE BETWEEN 0 AND 100);
CREATE TYPE point3 AS (x int, y int, z int);
CREATE TABLE types (
  id text PRIMARY KEY, amount numeric(10,2), at timestamptz, numbers int[], words text[], doc jsonb, share percent,
  tint colour, code char(5), short varchar(3), corner point3, span int4range, raw bytea, big text,
  doubled numeric GENERATED ALWAYS AS (amount * 2) STORED, flag boolean, ratio float8, stamp timestamp(0));
CREATE FUNCTION fold_types(state types, event refold.event) RETURNS types LANGUAGE plpgsql AS $$
BEGIN
  IF state.doubled IS NOT NULL THEN
    RAISE EXCEPTION 'a generated column has a value in the state';
  END IF;
  state.id := event.stream_id;
  state.amount := coalesce(state.amount, 0) + (event.data ->> 'amount')::numeric;
  state.at := event.data ->> 'at';
  state.numbers := state.numbers || (event.data ->> 'n')::int;
  state.words := array_append(state.words, NULL) || 'w'::text;
  state.doc := coalesce(state.doc, '{}') || event.data;
  state.share := event.data ->> 'share';
  state.tint := event.data ->> 'tint';
  state.code := event.data ->> 'code';
  state.short := event.data ->> 'code';
  state.corner := ROW(1, coalesce((state.corner).y, 0) + 1, NULL);
  state.span := int4range(1, array_length(state.numbers, 1), '[]');
  state.raw := convert_to(event.stream_id, 'UTF8');
  state.big := repeat(event.stream_id, 5000);
  state.flag := NOT coalesce(state.flag, false);
  state.ratio := 1.0 / 3;
  state.stamp := '2026-01-02 03:04:05.6';
  RETURN state;
END
$$;
SELECT generation FROM refold.create_projection('types', 'fold_types(types, refold.event)', event_types => '{e}');
SELECT refold.append_event('t1', 'e', '{"amount": 1.005, "at": "2026-01-02 03:04:05.678+01", "n": 1, "share": 12.345, "tint": "red", "code": "ab"}');
SELECT refold.append_events('t1', '[
  {"type": "e", "data": {"amount": 2, "at": "2026-07-02 03:04", "n": 2, "share": 1, "tint": "green", "code": "abc"}},
  {"type": "e", "data": {"amount": 0.111, "at": null, "n": null, "share": 0, "tint": null, "code": null}}]');
\x
SELECT id, amount, at AT TIME ZONE 'UTC' IS NULL AS at_null, numbers, words, doc, share, tint, code, short, corner, span, raw,
    length(big), doubled, flag, ratio, stamp = '2026-01-02 03:04:06' AS stamp FROM types;
\x
SELECT key FROM refold.verify_projection('types');
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('types');
-- What a column refuses, the append is refused for.
SELECT refold.append_event('t1', 'e', '{"amount": 1, "share": 100.01}');
SELECT refold.append_event('t1', 'e', '{"amount": 1, "code": "abcdef"}');
SELECT refold.append_event('t1', 'e', '{"amount": 1, "tint": "blue"}');
SELECT refold.append_event('t1', 'e', '{"amount": 100000000}');
SELECT count(*) FROM refold.event;

-- Rounding to a column's precision happens between two events, in a replay as in appends.
CREATE TABLE rounded (id text PRIMARY KEY, total numeric(10,1));
CREATE FUNCTION fold_rounded(state rounded, event refold.event) RETURNS rounded LANGUAGE sql AS $$
  SELECT ROW(event.stream_id, coalesce(state.total, 0) + (event.data ->> 'n')::numeric)::rounded
$$;
SELECT generation FROM refold.create_projection('rounded', 'fold_rounded(rounded, refold.event)', event_types => '{n}');
SELECT refold.append_event('one', 'n', '{"n": 0.04}') FROM generate_series(1, 3);
SELECT refold.append_events('batch', '[{"type": "n", "data": {"n": 0.06}}, {"type": "n", "data": {"n": 0.06}}]');
SELECT * FROM rounded ORDER BY id;
SELECT key FROM refold.verify_projection('rounded');

-- Names that need quotes, in a schema that is not on the search_path.
CREATE SCHEMA "The ""Shop""";
CREATE TABLE "The ""Shop"""."Käse ""tbl""" ("sel""ect" text PRIMARY KEY, "Group" int, "a b" text, "größe" int,
  "order" int GENERATED ALWAYS AS ("Group" * 2) STORED);
CREATE FUNCTION "The ""Shop"""."fold 'it'"(state "The ""Shop"""."Käse ""tbl""", event refold.event)
  RETURNS "The ""Shop"""."Käse ""tbl""" LANGUAGE plpgsql AS $$
BEGIN
  state."sel""ect" := event.stream_id;
  state."Group" := coalesce(state."Group", 0) + 1;
  state."a b" := event.event_type;
  RETURN state;
END
$$;
SELECT projection, generation FROM refold.create_projection('The "odd" ''name''',
  '"The ""Shop"""."fold ''it''"("The ""Shop"""."Käse ""tbl""", refold.event)', event_types => ARRAY['it''s', 'a\b', '"', 'ä']);
SELECT refold.append_event('o''1\', 'it''s', '{}');
SELECT refold.append_events('o''1\', '[{"type": "ä", "data": 1}, {"type": "a\\b", "data": 1}, {"type": "\"", "data": 1}]');
SELECT * FROM "The ""Shop"""."Käse ""tbl""";
SELECT * FROM refold.verify_projection('The "odd" ''name''');
SELECT projection, events_replayed, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('The "odd" ''name''');
UPDATE "The ""Shop"""."Käse ""tbl""" SET "Group" = 0;
SELECT * FROM refold.verify_projection('The "odd" ''name''');
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('The "odd" ''name''');
SELECT name, handler, tables, event_types FROM refold.projections WHERE name LIKE 'The%';

-- Column names that refold's own statements use as aliases.
CREATE TABLE alias (k text PRIMARY KEY, l int, s int, t int, q int, e int, r int, "position" int, state int, event int, data int);
CREATE FUNCTION fold_alias(state alias, event refold.event) RETURNS alias LANGUAGE plpgsql AS $$
BEGIN
  state.k := event.stream_id;
  state.l := coalesce(state.l, 0) + 1;
  state.s := 2; state.t := 3; state.q := 4; state.e := 5; state.r := 6; state."position" := 7;
  state.state := 8; state.event := 9; state.data := 10;
  RETURN state;
END
$$;
SELECT generation FROM refold.create_projection('alias', 'fold_alias(alias, refold.event)', event_types => '{alias}');
SELECT refold.append_event('a', 'alias', '{}') FROM generate_series(1, 2);
SELECT * FROM alias;
SELECT * FROM refold.verify_projection('alias');
UPDATE alias SET l = 0;
SELECT * FROM refold.verify_projection('alias');
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('alias');

-- A table that has lost a column, one with nothing but its key, and one that changes while it is a read model.
CREATE TABLE lost (gone int, id text PRIMARY KEY, gone_too int, n int);
ALTER TABLE lost DROP COLUMN gone, DROP COLUMN gone_too;
CREATE FUNCTION fold_lost(state lost, event refold.event) RETURNS lost LANGUAGE plpgsql AS $$
BEGIN
  state.id := event.stream_id;
  state.n := coalesce(state.n, 0) + 1;
  RETURN state;
END
$$;
CREATE TABLE only_key (id text PRIMARY KEY);
CREATE FUNCTION fold_only_key(state only_key, event refold.event) RETURNS only_key LANGUAGE sql AS $$
  SELECT CASE WHEN state IS NULL THEN ROW(event.stream_id)::only_key END
$$;
SELECT generation FROM refold.create_projection('lost', 'fold_lost(lost, refold.event)', event_types => '{lost}');
SELECT generation FROM refold.create_projection('only_key', 'fold_only_key(only_key, refold.event)', event_types => '{lost}');
SELECT refold.append_event('x', 'lost', '{}') FROM generate_series(1, 3);
SELECT refold.append_event('y', 'lost', '{}') FROM generate_series(1, 2);
SELECT * FROM lost ORDER BY id;
SELECT * FROM only_key;
SELECT * FROM refold.verify_projection('lost');
SELECT * FROM refold.verify_projection('only_key');
ALTER TABLE lost ADD COLUMN extra text;
SELECT refold.append_event('x', 'lost', '{}');
ALTER TABLE lost RENAME TO found;
ALTER TABLE found RENAME COLUMN extra TO "Extra";
SELECT refold.append_event('y', 'lost', '{}');
ALTER TABLE found DROP COLUMN "Extra";
SELECT refold.append_event('y', 'lost', '{}');
SELECT * FROM found ORDER BY id;
SELECT * FROM refold.verify_projection('lost');
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('lost');
