CREATE EXTENSION refold;

-- NULL: no check.
SELECT refold.append_event('a', 't', '{}', expected_version => NULL);
SELECT refold.append_event('a', 't', '{}');
-- 0: the stream must not exist.
SELECT refold.append_event('b', 't', '{}', expected_version => 0);
SELECT refold.append_event('b', 't', '{}', expected_version => 0);
-- n: it must be at n.
SELECT refold.append_event('a', 't', '{}', expected_version => 2);
SELECT refold.append_event('a', 't', '{}', expected_version => 2);
SELECT refold.append_event('a', 't', '{}', expected_version => 4);
SELECT refold.append_event('c', 't', '{}', expected_version => 1);
SELECT refold.append_event('a', 't', '{}', expected_version => 9223372036854775807);
-- -1: it must exist.
SELECT refold.append_event('a', 't', '{}', expected_version => -1);
SELECT refold.append_event('c', 't', '{}', expected_version => -1);
-- Of a batch, before its first event.
SELECT refold.append_events('a', '[{"type": "t", "data": 1}, {"type": "t", "data": 2}]', 4);
SELECT refold.append_events('a', '[{"type": "t", "data": 1}, {"type": "t", "data": 2}]', 5);
SELECT refold.append_events('d', '[{"type": "t", "data": 1}, {"type": "t", "data": 2}]', 0);
SELECT refold.append_events('d', '[{"type": "t", "data": 1}, {"type": "t", "data": 2}]', -1);
-- Within a transaction its own appends count, and those taken back do not.
BEGIN;
SELECT refold.append_event('e', 't', '{}', expected_version => 0);
SAVEPOINT s;
SELECT refold.append_event('e', 't', '{}', expected_version => 1);
ROLLBACK TO s;
SELECT refold.append_event('e', 't', '{}', expected_version => 2);
ROLLBACK TO s;
SELECT refold.append_event('e', 't', '{}', expected_version => 1);
COMMIT;
-- What it cannot be.
SELECT refold.append_event('a', 't', '{}', expected_version => -2);
SELECT refold.append_events('a', '[{"type": "t", "data": 1}]', -9223372036854775808);
-- The codes that clients go by.
\set VERBOSITY sqlstate
SELECT refold.append_event('a', 't', '{}', expected_version => 1);
SELECT refold.append_event('c', 't', '{}', expected_version => -1);
SELECT refold.append_event('a', 't', '{}', expected_version => -2);
\set VERBOSITY default
SELECT stream_id, count(*), max(stream_version) FROM refold.event GROUP BY stream_id ORDER BY stream_id;
