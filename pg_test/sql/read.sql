CREATE EXTENSION refold;
\set SHOW_CONTEXT never
-- An empty log.
SELECT * FROM refold.read_all();
SELECT count(*) FROM refold.read_stream('a');
SELECT (refold.append_event(CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END, 'type-' || n % 3, to_jsonb(n))).position
  FROM generate_series(1, 8) AS n;
-- An append that was rolled back leaves a hole that readers pass.
BEGIN;
SELECT refold.append_events('odd', '[{"type": "x", "data": 1}, {"type": "x", "data": 1}]');
ROLLBACK;
SELECT (refold.append_event('odd', 'type-0', '9')).position;

-- A stream: from a version on, so many, backwards.
SELECT stream_version, data FROM refold.read_stream('odd');
SELECT stream_version, data FROM refold.read_stream('odd', 3);
SELECT stream_version, data FROM refold.read_stream('odd', 2, 2);
SELECT stream_version, data FROM refold.read_stream('odd', max_count => 2, backwards => true);
SELECT stream_version, data FROM refold.read_stream('odd', 4, backwards => true);
SELECT count(*) FROM refold.read_stream('odd', -5);
SELECT count(*) FROM refold.read_stream('odd', 6);
SELECT count(*) FROM refold.read_stream('odd', max_count => 0);
SELECT count(*) FROM refold.read_stream('nobody');
SELECT refold.read_stream(NULL);
SELECT refold.read_stream('');
SELECT refold.read_stream('odd', NULL);
SELECT refold.read_stream('odd', backwards => NULL);
SELECT refold.read_stream('odd', max_count => -1);

-- The log: after a position, so many, of these types.
SELECT position, stream_id, data FROM refold.read_all();
SELECT position FROM refold.read_all(6);
SELECT position FROM refold.read_all(11);
SELECT position FROM refold.read_all(9223372036854775807);
SELECT position FROM refold.read_all(2, 3);
SELECT position FROM refold.read_all(7, 2);
SELECT position, event_type FROM refold.read_all(event_types => '{type-0,type-2}');
SELECT position, event_type FROM refold.read_all(0, 2, '{type-0}');
SELECT position, event_type FROM refold.read_all(3, 2, '{type-0}');
SELECT count(*) FROM refold.read_all(max_count => 0);
SELECT count(*) FROM refold.read_all(event_types => '{}');
SELECT count(*) FROM refold.read_all(event_types => '{nothing,NULL}');
SELECT refold.read_all(NULL);
SELECT refold.read_all(-1);
SELECT refold.read_all(0, NULL);
SELECT refold.read_all(0, -1);
-- A transaction sees its own appends, whatever its isolation level, and reads on over a dead hole.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT position FROM refold.read_all(7);
SELECT (refold.append_event('even', 'own', '10')).position;
SELECT position FROM refold.read_all(7);
COMMIT;
BEGIN;
SELECT (refold.append_event('even', 'own', '11')).position;
SAVEPOINT s;
SELECT (refold.append_event('even', 'own', '12')).position;
ROLLBACK TO s;
SELECT (refold.append_event('even', 'own', '13')).position;
SELECT position FROM refold.read_all(10);
COMMIT;
SELECT position FROM refold.read_all(10);
-- In a read-only transaction.
BEGIN READ ONLY;
SELECT count(*) FROM refold.read_all();
SELECT count(*) FROM refold.read_stream('odd');
COMMIT;
-- More than the chunks that read_all reads in.
SELECT (refold.append_events('many', (SELECT jsonb_agg(jsonb_build_object('type', CASE WHEN n % 5000 = 0 THEN 'rare' ELSE 'often' END,
  'data', n) ORDER BY n) FROM generate_series(1, 25000) AS n))).stream_version;
SELECT count(*), count(DISTINCT position) FROM refold.read_all(0, 100000);
SELECT data FROM refold.read_all(0, 4, '{rare}');
SELECT count(*), min((data)::int), max((data)::int) FROM refold.read_all(14, 12345);
