-- In the role in which replicated rows are applied, statements are what they are in any other: the triggers for replicated
-- rows fire too, and have nothing to do. What they do where no statement is, cargo xtask replicas shows.
CREATE EXTENSION refold;
SET client_min_messages = warning;
CREATE TABLE seen (stream_id text PRIMARY KEY, positions bigint[] NOT NULL);
CREATE FUNCTION see(state seen, event refold.event) RETURNS seen LANGUAGE sql AS $$
  SELECT ROW(event.stream_id, state.positions || event.position)::seen
$$;
SET session_replication_role = replica;
-- A restore.
INSERT INTO refold.event (position, stream_id, stream_version, event_type, data, event_id, horizon) OVERRIDING SYSTEM VALUE
  SELECT 10 * n, 'restored', n, 't', '{}', gen_random_uuid(), '5' FROM generate_series(1, 3) AS n;
SELECT (refold.create_projection('seen', 'see(seen, refold.event)')).rows_inserted;
-- Appends, of one event and of several, after another trigger as well, which makes them statements.
SELECT * FROM refold.append_event('restored', 't', '{}');
SELECT * FROM refold.append_events('new', '[{"type": "t", "data": 1}, {"type": "t", "data": 2}]');
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER tell AFTER INSERT ON refold.event FOR EACH ROW EXECUTE FUNCTION tell();
ALTER TABLE refold.event ENABLE ALWAYS TRIGGER tell;
SELECT * FROM refold.append_events('new', '[{"type": "t", "data": 3}, {"type": "t", "data": 4}]');
DROP TRIGGER tell ON refold.event;
TABLE seen ORDER BY stream_id;
-- As a restore with --disable-triggers leaves them; mended; and those for rows on in every role.
ALTER TABLE refold.event DISABLE TRIGGER ALL;
ALTER TABLE refold.event ENABLE TRIGGER ALL;
SELECT * FROM refold.append_event('restored', 't', '{}');
RESET session_replication_role;
ALTER TABLE refold.event ENABLE ALWAYS TRIGGER admit, ENABLE ALWAYS TRIGGER apply, ENABLE ALWAYS TRIGGER immutable,
  ENABLE REPLICA TRIGGER admit_replicated, ENABLE REPLICA TRIGGER apply_replicated;
SELECT * FROM refold.append_event('restored', 't', '{}');
ALTER TABLE refold.event ENABLE ALWAYS TRIGGER admit_replicated, ENABLE ALWAYS TRIGGER apply_replicated;
SELECT * FROM refold.append_event('restored', 't', '{}');
SET session_replication_role = replica;
SELECT * FROM refold.append_event('restored', 't', '{}');
TABLE seen ORDER BY stream_id;
-- Refused as ever.
\set VERBOSITY terse
INSERT INTO refold.event (stream_id, stream_version, event_type, data, event_id, horizon) VALUES ('x', 1, 't', '{}', gen_random_uuid(), '5');
UPDATE refold.event SET data = '1';
DELETE FROM refold.event;
TRUNCATE refold.event;
-- Commands write to the registry, which is not replication.
SELECT (refold.rebuild_projection('seen')).generation;
SELECT refold.drop_projection('seen');
SELECT refold._admit_replicated();
RESET session_replication_role;
CREATE TABLE other (n int);
CREATE TRIGGER wrong BEFORE INSERT ON other FOR EACH STATEMENT EXECUTE FUNCTION refold._admit_replicated();
INSERT INTO other VALUES (1);
DROP TRIGGER wrong ON other;
CREATE TRIGGER wrong BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION refold._admit_replicated();
INSERT INTO other VALUES (1);
DROP TRIGGER wrong ON other;
CREATE TRIGGER wrong AFTER INSERT ON other FOR EACH ROW EXECUTE FUNCTION refold._apply_replicated();
INSERT INTO other VALUES (1);
