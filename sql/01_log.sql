-- The log: one immutable row for each event.

-- CREATE EXTENSION sets the same; said here as well, for whoever checks this script.
SET LOCAL search_path TO pg_catalog, pg_temp;

DO $$
BEGIN
  IF pg_catalog.current_setting('server_encoding') <> 'UTF8' THEN
    RAISE feature_not_supported USING MESSAGE = 'refold needs a database with the encoding UTF8',
      HINT = 'Use CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0.';
  END IF;
END $$;

CREATE SCHEMA refold;
COMMENT ON SCHEMA refold IS 'event log, projections and rebuilds';

CREATE TABLE refold.gate ();
COMMENT ON TABLE refold.gate IS
  'Only ever locked: appends hold RowExclusiveLock to their end, whoever changes a projection''s state ShareRowExclusiveLock.';

-- Without an index on event_type, measured: it makes an append 7 % dearer, and a rebuild of one event in a hundred reads
-- the other 99 at 0.07 s a million. Types lie mixed, so that no summary of blocks (BRIN) skips any.
CREATE TABLE refold.event (
  position bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  stream_id text NOT NULL,
  stream_version bigint NOT NULL,
  event_type text NOT NULL,
  data jsonb NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}',
  event_id uuid NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  horizon xid8 NOT NULL,
  CONSTRAINT event_stream_version_key UNIQUE (stream_id, stream_version),
  CONSTRAINT event_id_key UNIQUE (event_id)
);
COMMENT ON TABLE refold.event IS 'The log. append_event and append_events write it; nothing changes or deletes a row.';
COMMENT ON COLUMN refold.event.position IS 'order of the log; gaps are appends that were rolled back';
COMMENT ON COLUMN refold.event.stream_id IS 'the stream that the event belongs to';
COMMENT ON COLUMN refold.event.stream_version IS 'order within the stream: 1, 2, ... without gaps';
COMMENT ON COLUMN refold.event.event_type IS 'what happened, as a name';
COMMENT ON COLUMN refold.event.data IS 'what happened, in detail';
COMMENT ON COLUMN refold.event.metadata IS 'about the event: who, why, correlation';
COMMENT ON COLUMN refold.event.event_id IS 'unique over the log; makes a repeated append harmless';
COMMENT ON COLUMN refold.event.recorded_at IS 'when the event was appended, by the server''s clock';
COMMENT ON COLUMN refold.event.horizon IS 'whoever drew an earlier position has a smaller transaction id';
COMMENT ON SEQUENCE refold.event_position_seq IS 'positions of the log; its lock tells who may still fill a gap';

CREATE FUNCTION refold._cluster() RETURNS bigint
  LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'refold_cluster';
COMMENT ON FUNCTION refold._cluster() IS 'the system identifier of the cluster: another one after a restore elsewhere or pg_upgrade';

-- Not dumped, so that a restored database has one of its own.
CREATE TABLE refold.installation (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  installation_id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
  opened_on bigint,
  opened_at timestamptz,
  final_position bigint NOT NULL DEFAULT 0
);
INSERT INTO refold.installation DEFAULT VALUES;
COMMENT ON TABLE refold.installation IS
  'One row: whether the store is open. Until its first append or command a restore may write the log and the registry.';
COMMENT ON COLUMN refold.installation.installation_id IS 'tells which projections are this installation''s own';
COMMENT ON COLUMN refold.installation.opened_on IS 'the cluster that it was opened on; NULL: it is not open';
COMMENT ON COLUMN refold.installation.final_position IS 'up to here all positions were final when the store was opened: what was restored has the horizons of another cluster';

CREATE FUNCTION refold.open_store() RETURNS void
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_open_store';
COMMENT ON FUNCTION refold.open_store() IS
  'After a restore: adopts the restored projections and ends the time in which a restore may write. The first append or command does the same.';

CREATE FUNCTION refold._admit_insert() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'refold_admit_insert';
COMMENT ON FUNCTION refold._admit_insert() IS 'takes the gate and refuses rows that come neither through append_event nor from a restore';

CREATE FUNCTION refold._apply_insert() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'refold_apply_insert';
COMMENT ON FUNCTION refold._apply_insert() IS 'applies the projections to the appended events';

CREATE FUNCTION refold._refuse_change() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'refold_refuse_change';
COMMENT ON FUNCTION refold._refuse_change() IS 'keeps the log immutable';

CREATE FUNCTION refold._admit_replicated() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'refold_admit_replicated';
COMMENT ON FUNCTION refold._admit_replicated() IS 'gives an event that logical replication brings its place in this log';

CREATE FUNCTION refold._apply_replicated() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'refold_apply_replicated';
COMMENT ON FUNCTION refold._apply_replicated() IS 'applies the projections to an event that logical replication brings';

CREATE FUNCTION refold._refuse_replicated() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'refold_refuse_replicated';
COMMENT ON FUNCTION refold._refuse_replicated() IS 'keeps what is true of another database only out of the registry';

CREATE TRIGGER admit BEFORE INSERT ON refold.event
  FOR EACH STATEMENT EXECUTE FUNCTION refold._admit_insert();
CREATE TRIGGER apply AFTER INSERT ON refold.event
  FOR EACH STATEMENT EXECUTE FUNCTION refold._apply_insert();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON refold.event
  FOR EACH STATEMENT EXECUTE FUNCTION refold._refuse_change();
ALTER TABLE refold.event ENABLE ALWAYS TRIGGER admit;
ALTER TABLE refold.event ENABLE ALWAYS TRIGGER apply;
ALTER TABLE refold.event ENABLE ALWAYS TRIGGER immutable;

-- Whoever applies what another server has logged runs no statements: only row triggers fire, and only these are for it.
CREATE TRIGGER admit_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.event
  FOR EACH ROW EXECUTE FUNCTION refold._admit_replicated();
CREATE TRIGGER apply_replicated AFTER INSERT ON refold.event
  FOR EACH ROW EXECUTE FUNCTION refold._apply_replicated();
ALTER TABLE refold.event ENABLE REPLICA TRIGGER admit_replicated;
ALTER TABLE refold.event ENABLE REPLICA TRIGGER apply_replicated;

CREATE TRIGGER refuse_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.installation
  FOR EACH ROW EXECUTE FUNCTION refold._refuse_replicated();
ALTER TABLE refold.installation ENABLE REPLICA TRIGGER refuse_replicated;

CREATE FUNCTION refold.append_event(
  stream_id text, event_type text, data jsonb, metadata jsonb DEFAULT '{}', expected_version bigint DEFAULT NULL,
  event_id uuid DEFAULT NULL, OUT stream_version bigint, OUT "position" bigint
) LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_append_event';
COMMENT ON FUNCTION refold.append_event(text, text, jsonb, jsonb, bigint, uuid) IS
  'Appends one event to a stream and applies the projections to it. expected_version: NULL no check, 0 new stream, -1 existing stream, n at version n. A repeated event_id returns the first append''s result.';

CREATE FUNCTION refold.append_events(
  stream_id text, events jsonb, expected_version bigint DEFAULT NULL, OUT stream_version bigint, OUT "position" bigint
) LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_append_events';
COMMENT ON FUNCTION refold.append_events(text, jsonb, bigint) IS
  'Appends all or none of [{"type", "data", "metadata"?, "event_id"?}, ...] to a stream; returns the last event''s version and position.';
