-- Marten's tables of events, as Marten defines them: the columns, their types, defaults and keys are those of
-- src/Marten/Events/Schema/EventsTable.cs and StreamsTable.cs in https://github.com/JasperFx/marten (commit 051ce40, Marten 7;
-- docs/events/storage.md there describes them). <id type> is uuid or varchar, by StreamIdentity; <metadata columns> are those
-- that Events.MetadataConfig switches on.

CREATE SCHEMA IF NOT EXISTS <schema>;

CREATE TABLE <schema>.mt_streams (
  id <id type> NOT NULL,
  type varchar,
  version bigint,
  timestamp timestamptz NOT NULL DEFAULT (now()),
  snapshot jsonb,
  snapshot_version integer,
  created timestamptz NOT NULL DEFAULT (now()),
  tenant_id varchar DEFAULT '*DEFAULT*',
  is_archived boolean DEFAULT false,
  CONSTRAINT pkey_mt_streams_id PRIMARY KEY (id)
);

CREATE TABLE <schema>.mt_events (
  seq_id bigint NOT NULL,
  id uuid NOT NULL,
  stream_id <id type>,
  version bigint NOT NULL,
  data jsonb NOT NULL,
  type varchar(500) NOT NULL,
  timestamp timestamptz NOT NULL DEFAULT '(now())',
  tenant_id varchar DEFAULT '*DEFAULT*',
  mt_dotnet_type varchar,
  <metadata columns>
  is_archived boolean DEFAULT false,
  CONSTRAINT pkey_mt_events_seq_id PRIMARY KEY (seq_id),
  CONSTRAINT fkey_mt_events_stream_id FOREIGN KEY (stream_id) REFERENCES <schema>.mt_streams (id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX pk_mt_events_stream_and_version ON <schema>.mt_events (stream_id, version);

CREATE SEQUENCE <schema>.mt_events_sequence;
ALTER SEQUENCE <schema>.mt_events_sequence OWNED BY <schema>.mt_events.seq_id;

-- What a session of Marten's does to append one event, in short.
CREATE FUNCTION <schema>.append_one(stream text, event_type text, data text, metadata text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  next bigint;
BEGIN
  INSERT INTO <schema>.mt_streams (id, type, version) VALUES (stream::<id type>, 'cart', 0) ON CONFLICT DO NOTHING;
  UPDATE <schema>.mt_streams SET version = version + 1, timestamp = now() WHERE id = stream::<id type> RETURNING version INTO next;
  INSERT INTO <schema>.mt_events (seq_id, id, stream_id, version, data, type, timestamp, mt_dotnet_type<metadata names>)
  VALUES (nextval('<schema>.mt_events_sequence'), gen_random_uuid(), stream::<id type>, next, data::jsonb, event_type, clock_timestamp(),
          'Shop.Events.Cart, Shop'<metadata values>);
END $$;
