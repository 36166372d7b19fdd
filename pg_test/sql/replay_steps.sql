CREATE EXTENSION refold;
SET client_min_messages = warning;

-- What a replay calls can be called by anyone while it runs; nothing but refold's own statement gets to the handler.
SELECT refold._event_step(NULL);
SELECT refold._fold(1, NULL::refold.event);
CREATE TABLE seen (stream_id text PRIMARY KEY);
CREATE FUNCTION on_batch(events refold.event[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refold._event_step(ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::refold.event);
END $$;
SELECT refold.append_event('s', 't', '{}');
SELECT generation FROM refold.create_projection('seen', 'on_batch(refold.event[])', '{seen}');
CREATE FUNCTION on_event(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refold._event_step(event);
END $$;
SELECT generation FROM refold.create_projection('seen', 'on_event(refold.event)', '{seen}');
CREATE TABLE n (k text PRIMARY KEY, n int);
CREATE FUNCTION fold_n(state n, event refold.event) RETURNS n LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refold._fold(8::bigint, event);
  RETURN state;
END $$;
SELECT generation FROM refold.create_projection('n', 'fold_n(n, refold.event)');
CREATE FUNCTION plain_n(state n, event refold.event) RETURNS n LANGUAGE sql AS
  $$ SELECT ROW(event.stream_id, coalesce(state.n, 0) + 1)::n $$;
CREATE FUNCTION key_n(event refold.event) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refold._fold(NULL::n, ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::refold.event);
  RETURN event.stream_id;
END $$;
SELECT generation FROM refold.create_projection('n', 'plain_n(n, refold.event)', key => 'key_n(refold.event)');
CREATE OR REPLACE FUNCTION key_n(event refold.event) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  BEGIN
    PERFORM refold._fold(NULL::n, event);
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    NULL;
  END;
  RETURN event.stream_id;
END $$;
SELECT generation, rows_updated FROM refold.rebuild_projection('n');
TABLE n;

-- A key function that is replaced makes the model stale, as a handler does.
CREATE OR REPLACE FUNCTION key_n(event refold.event) RETURNS text LANGUAGE sql AS 'SELECT event.stream_id';
SELECT state FROM refold.projections;
SELECT rows_updated FROM refold.rebuild_projection('n');
SELECT state FROM refold.projections;

-- Keys of one name in two schemas.
CREATE SCHEMA one;
CREATE SCHEMA two;
SET search_path = one, two, public;
CREATE TABLE one.a (id text CONSTRAINT pk PRIMARY KEY);
CREATE TABLE two.b (id text CONSTRAINT pk PRIMARY KEY);
CREATE FUNCTION public.on_both(event refold.event) RETURNS void LANGUAGE sql AS
  $$ INSERT INTO a VALUES (event.stream_id) ON CONFLICT DO NOTHING; INSERT INTO b VALUES (event.stream_id) ON CONFLICT DO NOTHING $$;
SELECT rows_inserted FROM refold.create_projection('both', 'public.on_both(refold.event)', '{one.a, two.b}');
SELECT * FROM refold.verify_projection('both');
RESET search_path;

-- A constraint that was made of an index, beside an index that PostgreSQL names alike in the copy.
CREATE TABLE t (stream_id text PRIMARY KEY, a text);
CREATE UNIQUE INDEX t_a_idx ON t (a);
ALTER TABLE t ADD CONSTRAINT t_a_idx UNIQUE USING INDEX t_a_idx;
CREATE INDEX ON t (a text_pattern_ops);
CREATE FUNCTION on_t(event refold.event) RETURNS void LANGUAGE sql AS
  $$ INSERT INTO t VALUES (event.stream_id, event.stream_id) ON CONFLICT DO NOTHING $$;
SELECT rows_inserted FROM refold.create_projection('t', 'on_t(refold.event)', '{t}');
SELECT * FROM refold.verify_projection('t');

-- A key function that is gone.
DROP FUNCTION key_n(refold.event);
SELECT name, state FROM refold.projections WHERE name = 'n';
SELECT refold.append_event('s', 't', '{}');

-- Events of a stream whose versions are not in the order of their positions: no fold takes them in the wrong one.
CREATE TABLE of_stream (stream_id text PRIMARY KEY, n int);
CREATE FUNCTION fold_stream(state of_stream, event refold.event) RETURNS of_stream LANGUAGE sql AS
  $$ SELECT ROW(event.stream_id, coalesce(state.n, 0) + 1)::of_stream $$;
SELECT events_replayed > 0 AS replayed FROM refold.create_projection('of_stream', 'fold_stream(of_stream, refold.event)');
SELECT refold.drop_projection('of_stream');
TRUNCATE of_stream;
ALTER TABLE refold.event DISABLE TRIGGER USER;
INSERT INTO refold.event (stream_id, stream_version, event_type, data, event_id, horizon)
  SELECT 'upside-down', 3 - n, 't', '{}', gen_random_uuid(), pg_current_xact_id() FROM generate_series(1, 2) AS n;
ALTER TABLE refold.event ENABLE ALWAYS TRIGGER admit, ENABLE ALWAYS TRIGGER apply, ENABLE ALWAYS TRIGGER immutable,
  ENABLE REPLICA TRIGGER admit_replicated, ENABLE REPLICA TRIGGER apply_replicated;
SELECT refold.create_projection('of_stream', 'fold_stream(of_stream, refold.event)');
