CREATE EXTENSION refold;

-- Each stream counts its own versions, the log its positions.
SELECT * FROM refold.append_event('a', 'first', '{"n": 1}');
SELECT * FROM refold.append_event('b', 'first', '[]', '{"by": "ann"}');
SELECT * FROM refold.append_events('a', '[{"type": "second", "data": "text"}, {"type": "third", "data": 3, "metadata": {"by": "bob"}}]');
SELECT * FROM refold.append_event(stream_id => 'b', event_type => 'second', data => 'null', expected_version => 1);
SELECT position, stream_id, stream_version, event_type, data, metadata FROM refold.event ORDER BY position;

-- What is left out: a time-ordered id (UUID version 7), the time, the horizon.
SELECT bool_and(substr(event_id::text, 15, 1) = '7' AND substr(event_id::text, 20, 1) IN ('8', '9', 'a', 'b')) AS version_7,
    bool_and(recorded_at BETWEEN now() - interval '1 minute' AND clock_timestamp()) AS now,
    count(DISTINCT event_id) = count(*) AS different,
    bool_and(horizon > pg_snapshot_xmin('1:1:')) AS horizon
  FROM refold.event;
SELECT count(DISTINCT recorded_at) FROM refold.read_stream('a') WHERE stream_version > 1;
SELECT refold.append_event('c', 'given', '{}', event_id => '00000000-0000-4000-8000-00000000000c');
SELECT event_id FROM refold.read_stream('c');

-- Names of any kind.
SELECT refold.append_event(E'stream ''with\\quotes"\n', E'\t', '{}');
SELECT refold.append_event(repeat('ü', 512), repeat('t', 256), '{}');
SELECT stream_id = E'stream ''with\\quotes"\n' AS same, event_type = E'\t' AS same FROM refold.read_all(6) LIMIT 1;

-- Several appends in one transaction; a savepoint and a rollback leave no hole in the versions.
BEGIN;
SELECT refold.append_event('t', 'one', '{}');
SELECT refold.append_event('t', 'two', '{}');
SAVEPOINT s;
SELECT refold.append_events('t', '[{"type": "three", "data": 1}, {"type": "four", "data": 1}]');
ROLLBACK TO s;
SELECT refold.append_event('t', 'three again', '{}');
RELEASE s;
SELECT refold.append_event('u', 'one', '{}');
COMMIT;
SELECT stream_version, event_type FROM refold.read_stream('t');
BEGIN;
SELECT refold.append_event('t', 'lost', '{}');
ROLLBACK;
SELECT refold.append_event('t', 'four', '{}');
DO $$
BEGIN
  PERFORM refold.append_event('t', 'caught', '{}');
  RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
  PERFORM refold.append_event('t', 'five', '{}');
END
$$;
SELECT stream_version, event_type FROM refold.read_stream('t');

-- Of statements that append for each row.
SELECT s, refold.append_event(s, 'each', '{}') FROM unnest(ARRAY['x', 'y', 'x', 'y']) AS s;
SELECT count(*), max(stream_version) FROM refold.event WHERE stream_id IN ('x', 'y');
PREPARE p(text) AS SELECT stream_version FROM refold.append_event('prepared', $1, '{}');
EXECUTE p('1');
EXECUTE p('2');
SELECT (refold.append_events('many', (SELECT jsonb_agg(jsonb_build_object('type', 't', 'data', n) ORDER BY n)
  FROM generate_series(1, 5000) AS n))).stream_version;
SELECT count(*), bool_and((data)::int = stream_version) FROM refold.read_stream('many');

-- Prepared transactions, without a projection and with one.
BEGIN;
SELECT (refold.append_event('2pc', 'prepared', '{}')).stream_version;
PREPARE TRANSACTION 'append_1';
COMMIT PREPARED 'append_1';
CREATE TABLE counted (id text PRIMARY KEY, n int);
CREATE FUNCTION fold_counted(state counted, event refold.event) RETURNS counted LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 1
$$;
SELECT generation FROM refold.create_projection('counted', 'fold_counted(counted, refold.event)', event_types => '{prepared}');
BEGIN;
SELECT (refold.append_event('2pc', 'prepared', '{}')).stream_version;
PREPARE TRANSACTION 'append_2';
SELECT * FROM counted;
SELECT count(*) FROM refold.read_stream('2pc');
COMMIT PREPARED 'append_2';
BEGIN;
SELECT (refold.append_event('2pc', 'prepared', '{}')).stream_version;
PREPARE TRANSACTION 'append_3';
ROLLBACK PREPARED 'append_3';
SELECT * FROM counted;
SELECT (refold.append_event('2pc', 'prepared', '{}')).stream_version;
SELECT * FROM counted;
SELECT * FROM refold.verify_projection('counted');

-- A session that remembers a long stream's version finds what a rollback has left.
SELECT max((refold.append_event('long', 'n', to_jsonb(n))).stream_version) FROM generate_series(1, 20) AS n;
BEGIN;
SELECT max((refold.append_event('long', 'n', to_jsonb(n))).stream_version) FROM generate_series(21, 40) AS n;
ROLLBACK;
SELECT (refold.append_event('long', 'n', '21')).stream_version;

-- Numbers keep all their digits, and nesting its depth.
SELECT refold.append_events('digits', '[{"type": "n", "data": {"price": 1.10, "big": 123456789012345678901234567890,
  "small": 0.000000000000000000000000000000000001, "e": 1e2, "minus": -0.0}, "metadata": {"m": 2.50}}]');
SELECT refold.append_event('digits', 'n', '{"price": 1.10, "big": 123456789012345678901234567890}');
SELECT data, metadata FROM refold.read_stream('digits');
SELECT (refold.append_events('deep', jsonb_build_array(jsonb_build_object('type', 'd', 'data',
  (repeat('[', 1000) || repeat(']', 1000))::jsonb)))).stream_version;
SELECT length(data::text) FROM refold.read_stream('deep');
SELECT (refold.append_events('text', '[{"type": "\u00e4\"\\\n", "data": "\ud83d\ude00 \\u0041 \t"}]')).stream_version;
SELECT event_type = E'ä"\\\n' AS same, data, data #>> '{}' = E'😀 \\u0041 \t' AS same FROM refold.read_stream('text');

-- A large one, compressed and out of line.
SELECT (refold.append_event('large', 'l', to_jsonb(repeat('x', 1000000)))).stream_version;
SELECT (refold.append_events('large', jsonb_build_array(jsonb_build_object('type', 'l', 'data', repeat('y', 1000000))))).stream_version;
SELECT stream_version, length(data #>> '{}') FROM refold.read_stream('large');

-- The extension can be made anew in a session that has used it.
DROP EXTENSION refold CASCADE;
CREATE EXTENSION refold;
SELECT refold.append_event('a', 'first', '{}');
SELECT refold.append_event('long', 'first', '{}');
SELECT stream_id, stream_version FROM refold.read_all();
