-- An append writes the log without a statement where the table is as refold made it, and by a statement where it has
-- anything else that a statement does. A handler tells which: only a statement's trigger has a depth.
CREATE EXTENSION refold;
CREATE EXTENSION amcheck;
SET client_min_messages = warning;
-- Each append of a command sees the one before, where no handler's statement has come between.
SELECT refold.append_event('alone', 't', '1') FROM generate_series(1, 2);
SELECT refold.append_events('alone', '[{"type": "t", "data": 1}, {"type": "t", "data": 2}]') FROM generate_series(1, 2);
CREATE TABLE path (stream_id text, version bigint, by_statement boolean, PRIMARY KEY (stream_id, version));
CREATE FUNCTION note_path(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO path VALUES (event.stream_id, event.stream_version, pg_trigger_depth() > 0);
END $$;
SELECT (refold.create_projection('path', 'note_path(refold.event)', ARRAY['path'::regclass])).projection;

-- One event and several; several calls in one statement; a value that is stored out of line; after a savepoint is undone.
SELECT refold.append_event('one', 't', '1') FROM generate_series(1, 3);
SELECT refold.append_events('many', '[{"type": "t", "data": 1}, {"type": "t", "data": 2}]');
SELECT (refold.append_event('long', 't', (SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 1000) AS i))).stream_version;
BEGIN;
SELECT (refold.append_event('undone', 't', '1')).stream_version;
SAVEPOINT s;
SELECT (refold.append_event('undone', 't', '2')).stream_version;
ROLLBACK TO s;
SELECT (refold.append_event('undone', 't', '3')).stream_version;
COMMIT;
-- What a command has appended is no part of what the same command reads.
WITH a AS MATERIALIZED (SELECT refold.append_event('own', 't', '1')) SELECT count(*) AS seen FROM a, refold.event AS e WHERE e.stream_id = 'own';
TABLE path ORDER BY stream_id, version;
SELECT stream_id, stream_version, event_type, left(data::text, 20) AS data, metadata, recorded_at > now() - interval '1 hour' AS recently,
       horizon > '0'::xid8 AS horizon, tableoid::regclass FROM refold.event ORDER BY position;
SELECT indexrelid::regclass, bt_index_check(indexrelid, true) IS NOT NULL AS checked FROM pg_index WHERE indrelid = 'refold.event'::regclass ORDER BY 1::text;
SELECT * FROM verify_heapam('refold.event', check_toast => true);

-- Constraints and indexes that a user adds hold; neither needs a statement.
ALTER TABLE refold.event ADD CONSTRAINT small CHECK (length(event_type) < 10);
\set VERBOSITY terse
SELECT refold.append_event('check', 'much too long', '1');
\set VERBOSITY default
CREATE UNIQUE INDEX only_once ON refold.event ((data->>'once')) WHERE event_type = 'once';
SELECT (refold.append_event('once', 'once', '{"once": 1}')).stream_version;
SELECT refold.append_event('once', 'once', '{"once": 1}');
SELECT (refold.append_event('once', 'twice', '{"once": 1}')).stream_version;
ALTER TABLE refold.event ADD CONSTRAINT apart EXCLUDE USING hash ((data->>'apart') WITH =);
SELECT (refold.append_event('apart', 't', '{"apart": 1}')).stream_version;
SELECT refold.append_event('apart', 't', '{"apart": 1}');
SET enable_seqscan = off;
SELECT stream_id, stream_version FROM refold.event WHERE data->>'once' = '1' AND event_type = 'once';
RESET enable_seqscan;
SELECT bt_index_check('refold.only_once'::regclass, true) IS NOT NULL AS checked;
SELECT stream_id, bool_or(by_statement) AS by_statement FROM path WHERE stream_id IN ('once', 'apart') GROUP BY 1 ORDER BY 1;
ALTER TABLE refold.event DROP CONSTRAINT apart;

-- What needs a statement gets one.
CREATE TABLE told (what text);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO told VALUES (TG_NAME);
  RETURN NEW;
END $$;
CREATE FUNCTION tell_new() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO told SELECT concat_ws(' ', TG_NAME, e.data) FROM new_events AS e;
  RETURN NULL;
END $$;
CREATE FUNCTION append_both() RETURNS TABLE (stream_id text, version bigint, by_statement boolean) LANGUAGE sql AS $$
  SELECT refold.append_event('both', 't', '1');
  SELECT refold.append_events('both', '[{"type": "t", "data": 2}, {"type": "t", "data": 3}]');
  SELECT * FROM path WHERE stream_id = 'both' ORDER BY version;
$$;

BEGIN;
CREATE TRIGGER before_row BEFORE INSERT ON refold.event FOR EACH ROW EXECUTE FUNCTION tell();
SELECT * FROM append_both();
TABLE told;
ROLLBACK;

BEGIN;
CREATE TRIGGER after_row AFTER INSERT ON refold.event FOR EACH ROW EXECUTE FUNCTION tell();
SELECT * FROM append_both();
TABLE told;
ROLLBACK;

BEGIN;
CREATE TRIGGER after_statement AFTER INSERT ON refold.event FOR EACH STATEMENT EXECUTE FUNCTION tell();
SELECT * FROM append_both();
TABLE told;
ROLLBACK;

BEGIN;
CREATE TRIGGER before_statement BEFORE INSERT ON refold.event FOR EACH STATEMENT EXECUTE FUNCTION tell();
SELECT * FROM append_both();
TABLE told;
ROLLBACK;

BEGIN;
CREATE TRIGGER new_events AFTER INSERT ON refold.event REFERENCING NEW TABLE AS new_events FOR EACH STATEMENT EXECUTE FUNCTION tell_new();
SELECT * FROM append_both();
TABLE told;
ROLLBACK;

BEGIN;
CREATE RULE also AS ON INSERT TO refold.event DO ALSO INSERT INTO told VALUES ('rule');
SELECT * FROM append_both();
SELECT DISTINCT what FROM told;
ROLLBACK;

BEGIN;
ALTER TABLE refold.event ENABLE ROW LEVEL SECURITY;
SELECT * FROM append_both();
ROLLBACK;

BEGIN;
ALTER TABLE refold.event ADD COLUMN tenant text NOT NULL DEFAULT 'nobody';
SELECT * FROM append_both();
SELECT DISTINCT tenant FROM refold.event WHERE stream_id = 'both';
ROLLBACK;

BEGIN;
ALTER TABLE refold.event ADD COLUMN double bigint GENERATED ALWAYS AS (stream_version * 2) STORED;
SELECT * FROM append_both();
SELECT double FROM refold.event WHERE stream_id = 'both' ORDER BY 1;
ROLLBACK;

BEGIN;
ALTER TABLE refold.event ADD COLUMN gone text;
ALTER TABLE refold.event DROP COLUMN gone;
SELECT * FROM append_both();
ROLLBACK;

BEGIN;
ALTER TABLE refold.event ADD CONSTRAINT later EXCLUDE USING btree ((data->>'later') WITH =) DEFERRABLE INITIALLY DEFERRED;
SELECT * FROM append_both();
SELECT (refold.append_event('later', 't', '{"later": 1}')).stream_version FROM generate_series(1, 2);
SET CONSTRAINTS refold.later IMMEDIATE;
ROLLBACK;

BEGIN;
CREATE TABLE known_stream (stream_id text PRIMARY KEY);
INSERT INTO known_stream SELECT DISTINCT stream_id FROM refold.event;
INSERT INTO known_stream VALUES ('both');
ALTER TABLE refold.event ADD CONSTRAINT known FOREIGN KEY (stream_id) REFERENCES known_stream;
SELECT * FROM append_both();
SELECT refold.append_event('unknown', 't', '1');
ROLLBACK;

-- Triggers that are not enabled as refold enables them are not made up for.
BEGIN;
ALTER TABLE refold.event DISABLE TRIGGER apply;
SELECT refold.append_event('both', 't', '1');
ROLLBACK;
BEGIN;
ALTER TABLE refold.event ENABLE TRIGGER apply;
SELECT * FROM append_both();
ROLLBACK;

-- And without any of that, none again.
SELECT * FROM append_both();
SELECT * FROM refold.verify_projection('path');
