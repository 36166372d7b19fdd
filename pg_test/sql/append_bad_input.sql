CREATE EXTENSION refold;

-- NULL and empty.
SELECT refold.append_event(NULL, 't', '{}');
SELECT refold.append_event('', 't', '{}');
SELECT refold.append_event('s', NULL, '{}');
SELECT refold.append_event('s', '', '{}');
SELECT refold.append_event('s', 't', NULL);
SELECT refold.append_event('s', 't', '{}', NULL);
SELECT refold.append_events(NULL, '[]');
SELECT refold.append_events('', '[]');
SELECT refold.append_events('s', NULL);

-- Too long.
SELECT refold.append_event(repeat('ü', 513), 't', '{}');
SELECT refold.append_event('s', repeat('t', 257), '{}');
SELECT refold.append_event('s', 't', to_jsonb(repeat('x', 16 * 1024 * 1024)));
SELECT refold.append_event('s', 't', '{}', jsonb_build_object('k', repeat('x', 16 * 1024 * 1024)));
SELECT refold.append_events('s', jsonb_build_array(jsonb_build_object('type', 't', 'data', repeat('x', 16 * 1024 * 1024))));
SELECT refold.append_events('s', jsonb_build_array(jsonb_build_object('type', repeat('t', 257), 'data', 1)));
SELECT refold.append_events('s', (SELECT jsonb_agg('{"type": "t", "data": 1}'::jsonb) FROM generate_series(1, 100001)));
-- Just not.
SELECT (refold.append_event('large', 't', to_jsonb(repeat('x', 16 * 1024 * 1024 - 12)))).stream_version;
SELECT (refold.append_event('large', 't', to_jsonb(repeat('x', 16 * 1024 * 1024 - 11)))).stream_version;

-- Malformed events; more of them in append_bad_elements.
SELECT refold.append_events('s', '[]');
SELECT refold.append_events('s', '[{"type": "t", "data": 1}, {"type": "t", "data": 1, "metadta": {}}]');

-- The log takes rows from nobody else, and keeps what it has.
SELECT refold.append_event('kept', 't', 'null');
SELECT stream_id, jsonb_typeof(data) FROM refold.read_stream('kept');
INSERT INTO refold.event (stream_id, stream_version, event_type, data, event_id, horizon)
  VALUES ('s', 1, 't', '{}', gen_random_uuid(), pg_current_xact_id());
INSERT INTO refold.event SELECT * FROM refold.event;
COPY refold.event (stream_id, stream_version, event_type, data, event_id, horizon) FROM stdin;
s	1	t	{}	00000000-0000-0000-0000-000000000001	1
\.
MERGE INTO refold.event AS e USING (SELECT 1) AS s ON false
  WHEN NOT MATCHED THEN INSERT (stream_id, stream_version, event_type, data, event_id, horizon)
    VALUES ('s', 1, 't', '{}', gen_random_uuid(), pg_current_xact_id());
UPDATE refold.event SET data = '{}';
UPDATE refold.event SET data = '{}' WHERE false;
DELETE FROM refold.event;
TRUNCATE refold.event;
SET session_replication_role = replica;
DELETE FROM refold.event;
INSERT INTO refold.event (stream_id, stream_version, event_type, data, event_id, horizon)
  VALUES ('s', 1, 't', '{}', gen_random_uuid(), pg_current_xact_id());
SELECT (refold.append_event('kept', 't', '{}')).stream_version;
RESET session_replication_role;
SELECT stream_id, stream_version FROM refold.event ORDER BY position;
-- In a read-only transaction.
BEGIN READ ONLY;
SELECT refold.append_event('s', 't', '{}');
ROLLBACK;
-- The internal functions, called by hand.
SELECT refold._admit_insert();
SELECT refold._event_step(e) FROM refold.event AS e;
SELECT refold._fold(1, e) FROM refold.event AS e;
CREATE TABLE other (id int);
CREATE TRIGGER other AFTER INSERT ON other FOR EACH STATEMENT EXECUTE FUNCTION refold._apply_insert();
INSERT INTO other VALUES (1);
