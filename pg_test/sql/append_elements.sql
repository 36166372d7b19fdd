CREATE EXTENSION refold;

-- What an element holds is stored as its text says, to the last bit: scalars, numbers, what is nested, what is long.
CREATE TABLE given (n serial, data text, metadata text);
INSERT INTO given (data, metadata) VALUES
  ('null', '{}'), ('true', '[]'), ('1.10', 'false'), ('1e400', '"text"'), ('-0.0', '0'),
  ('123456789012345678901234567890.5', '{"a": null}'), ('"äöü \\ \" \u0001"', '""'), ('[]', '{"": {}}'), ('{}', '[[]]'),
  ('[1, [2, [3, {"a": [4, 1.5, {"b": "c"}]}]], "x"]', '{"a": {"b": {"c": [true, null, 1.25]}}}'),
  ((SELECT jsonb_object_agg('key ' || i, CASE i % 3 WHEN 0 THEN to_jsonb(i) WHEN 1 THEN to_jsonb(i::text) ELSE jsonb_build_array(i, i / 7.0) END)::text
      FROM generate_series(1, 100) AS i), (SELECT jsonb_agg(i)::text FROM generate_series(1, 200) AS i)),
  ((SELECT jsonb_agg(md5(i::text))::text FROM generate_series(1, 2000) AS i), '{}');
SELECT (refold.append_events('s', jsonb_agg(jsonb_build_object('type', 't' || n, 'data', data::jsonb, 'metadata', metadata::jsonb) ORDER BY n))).*
  FROM given;
SELECT n, e.event_type, record_image_eq(ROW(e.data), ROW(g.data::jsonb)) AS data, record_image_eq(ROW(e.metadata), ROW(g.metadata::jsonb)) AS metadata
  FROM given AS g JOIN refold.event AS e ON e.stream_id = 's' AND e.stream_version = g.n
 WHERE pg_column_size(g.data::jsonb) < 1000 ORDER BY n;
SELECT n, e.data = g.data::jsonb AS data, e.metadata = g.metadata::jsonb AS metadata
  FROM given AS g JOIN refold.event AS e ON e.stream_id = 's' AND e.stream_version = g.n
 WHERE pg_column_size(g.data::jsonb) >= 1000 ORDER BY n;

-- From a table, compressed and out of line.
CREATE TABLE stored (events jsonb);
INSERT INTO stored SELECT jsonb_agg(jsonb_build_object('type', 'stored', 'data', jsonb_build_object('i', i, 't', repeat('x', i)))) FROM generate_series(1, 300) AS i;
SELECT (refold.append_events('stored', events)).stream_version FROM stored;
SELECT count(*), sum((data->>'i')::int), sum(length(data->>'t')) FROM refold.event WHERE stream_id = 'stored';
SELECT bool_and((data->>'i')::int = stream_version) AS in_order FROM refold.event WHERE stream_id = 'stored';

-- Every form of a UUID; an element that repeats a key has the last one's value, as jsonb has it.
SELECT (refold.append_events('ids', '[
  {"type": "t", "data": 1, "event_id": "018f0000-0000-7000-8000-000000000001"},
  {"type": "t", "data": 2, "event_id": "018F0000000070008000000000000002"},
  {"type": "t", "data": 3, "event_id": "urn:uuid:018f0000-0000-7000-8000-000000000003"},
  {"type": "t", "data": 4, "event_id": "{018f0000-0000-7000-8000-000000000004}"},
  {"type": "t", "data": 5, "data": 6, "event_id": null}]')).stream_version;
SELECT data, event_id FROM refold.event WHERE stream_id = 'ids' AND stream_version < 5 ORDER BY stream_version;
SELECT data FROM refold.event WHERE stream_id = 'ids' AND stream_version = 5;

-- The words for what is wrong are those of the array's text.
SELECT refold.append_events('s', '[{"type": "t", "data": 1}, {"type": "t", "data": {}, "event_id": "018f"}]');
SELECT refold.append_events('s', '[{"type": "t", "data": 1}, {"type": {"a": 1}, "data": {}}]');
SELECT refold.append_events('s', '[{"type": "t", "data": 1}, {"type": "t"}]');
SELECT refold.append_events('s', '[{"typ": "t", "data": 1}]');
SELECT refold.append_events('s', '[{"type": "t", "data": 1, "event_id": 1}]');
SELECT refold.append_events('s', '{"type": "t", "data": 1}');
SELECT refold.append_events('s', '[]');
SELECT refold.append_events('s', (SELECT jsonb_agg('{"type": "t", "data": 1}'::jsonb) FROM generate_series(1, 100001)));
