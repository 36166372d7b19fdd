CREATE EXTENSION refold;
\set a '\'00000000-0000-0000-0000-00000000000a\''
\set b '\'00000000-0000-0000-0000-00000000000b\''
\set c '\'00000000-0000-0000-0000-00000000000c\''

-- Given again with the same stream, type and data: the first result, and nothing is written.
SELECT * FROM refold.append_event('s', 't', '{"n": 1.0}', event_id => :a);
SELECT * FROM refold.append_event('s', 't', '{"n": 2}');
SELECT * FROM refold.append_event('s', 't', '{"n": 1.0}', event_id => :a);
-- Metadata may differ, and so may the way a number is written.
SELECT * FROM refold.append_event('s', 't', '{"n": 1}', '{"try": 2}', event_id => :a);
-- It is looked up before expected_version.
SELECT * FROM refold.append_event('s', 't', '{"n": 1}', expected_version => 0, event_id => :a);
SELECT * FROM refold.append_event('s', 't', '{"n": 1}', expected_version => 77, event_id => :a);
SELECT * FROM refold.append_event('s', 't', '{"n": 1}', expected_version => -2, event_id => :a);
-- Other data, another type, another stream.
SELECT refold.append_event('s', 't', '{"n": 3}', event_id => :a);
SELECT refold.append_event('s', 'u', '{"n": 1}', event_id => :a);
SELECT refold.append_event('r', 't', '{"n": 1}', event_id => :a);
-- A batch.
SELECT * FROM refold.append_events('s', '[
  {"type": "t", "data": 1, "event_id": "00000000-0000-0000-0000-00000000000b"},
  {"type": "t", "data": 2, "event_id": "00000000-0000-0000-0000-00000000000c"}]', 2);
SELECT * FROM refold.append_events('s', '[
  {"type": "t", "data": 1, "event_id": "00000000-0000-0000-0000-00000000000B"},
  {"type": "t", "data": 2, "event_id": "{00000000-0000-0000-0000-00000000000c}"}]', 2);
-- A single one of it, as an event and as a batch.
SELECT * FROM refold.append_event('s', 't', '1', event_id => :b);
SELECT * FROM refold.append_events('s', '[{"type": "t", "data": 2, "event_id": "00000000-0000-0000-0000-00000000000c"}]');
-- Another order; a part that is known and a part that is not, before and after; the same id twice.
SELECT refold.append_events('s', '[
  {"type": "t", "data": 2, "event_id": "00000000-0000-0000-0000-00000000000c"},
  {"type": "t", "data": 1, "event_id": "00000000-0000-0000-0000-00000000000b"}]');
SELECT refold.append_events('s', '[
  {"type": "t", "data": 2, "event_id": "00000000-0000-0000-0000-00000000000c"},
  {"type": "t", "data": 3, "event_id": "00000000-0000-0000-0000-00000000000d"}]');
SELECT refold.append_events('s', '[
  {"type": "t", "data": 3, "event_id": "00000000-0000-0000-0000-00000000000d"},
  {"type": "t", "data": 2, "event_id": "00000000-0000-0000-0000-00000000000c"}]');
SELECT refold.append_events('s', '[
  {"type": "t", "data": 2, "event_id": "00000000-0000-0000-0000-00000000000c"}, {"type": "t", "data": 3}]');
SELECT refold.append_events('s', '[
  {"type": "t", "data": 3, "event_id": "00000000-0000-0000-0000-00000000000d"},
  {"type": "t", "data": 3, "event_id": "00000000-0000-0000-0000-00000000000d"}]');
-- Within a transaction, and after it was rolled back.
BEGIN;
SELECT * FROM refold.append_event('q', 't', '1', event_id => '00000000-0000-0000-0000-00000000000e');
SELECT * FROM refold.append_event('q', 't', '1', event_id => '00000000-0000-0000-0000-00000000000e');
ROLLBACK;
SELECT stream_version FROM refold.append_event('q', 't', '2', event_id => '00000000-0000-0000-0000-00000000000e');
-- A projection sees it once.
CREATE TABLE n (id text PRIMARY KEY, n int);
CREATE FUNCTION fold_n(state n, event refold.event) RETURNS n LANGUAGE sql AS $$ SELECT event.stream_id, coalesce(state.n, 0) + 1 $$;
SELECT rows_inserted FROM refold.create_projection('n', 'fold_n(n, refold.event)');
SELECT * FROM n ORDER BY id;
SELECT * FROM refold.append_event('s', 't', '{"n": 1}', event_id => :a);
SELECT stream_version FROM refold.append_event('q', 't', '3', event_id => '00000000-0000-0000-0000-00000000000f');
SELECT * FROM n ORDER BY id;
\set VERBOSITY sqlstate
SELECT refold.append_event('s', 't', '{"n": 3}', event_id => :a);
SELECT refold.append_events('s', '[{"type": "t", "data": 2, "event_id": "00000000-0000-0000-0000-00000000000c"}, {"type": "t", "data": 3}]');
\set VERBOSITY default
SELECT stream_id, stream_version, data FROM refold.event ORDER BY position;
