-- Copies the events of an Emmett store (https://github.com/event-driven-io/emmett, emmett-postgresql) into refold's log,
-- in the same database; called again, what has come since. docs/migrating.md says how to move with it.
--
--   psql --dbname=shop --file=sql/migrate/from_emmett.sql
--
-- Options, each as --set=name=value:
--   schema        where Emmett's tables are [public]
--   tenant        copy this partition only [the only one there is]
--   by_tenant=on  copy all partitions; each stream's id begins with its partition and a slash
--   archived      what becomes of archived streams: refuse, copy, skip [refuse]
--   only, except  regular expressions: the streams to copy, and to leave out [all, none]
--   and those of every script: late, metadata_key, batch, patience

-- Here, not in a file that is included: the line that includes one goes by what was set before it.
\set ON_ERROR_STOP on

\set store emmett
\if :{?schema} \else \set schema public \endif
\set events_table emt_messages
\set sequence emt_global_message_position
\ir _begin.sql

SELECT pg_temp.require_json('message_data'), pg_temp.require_json('message_metadata') \g /dev/null

CREATE TEMP VIEW tenancy AS
SELECT m.partition AS tenant, m.is_archived, m.global_position AS source_position FROM :source_table AS m;
\ir _tenants.sql

SELECT format('%I.emt_streams', :'schema') AS streams_table \gset
CREATE TEMP VIEW source AS
SELECT m.global_position AS source_position,
       CASE WHEN :'by_tenant'::boolean THEN m.partition || '/' || m.stream_id ELSE m.stream_id END AS stream_id,
       m.stream_position AS stream_version,
       m.message_type AS event_type,
       m.message_data::jsonb AS data,
       m.message_metadata::jsonb AS metadata,
       m.message_id::text AS event_id,
       m.created AS recorded_at,
       jsonb_strip_nulls(jsonb_build_object(
         'partition', m.partition, 'stream_type', s.stream_type, 'message_kind', m.message_kind,
         'message_schema_version', m.message_schema_version, 'is_archived', m.is_archived)) AS note
  FROM :source_table AS m
  LEFT JOIN :streams_table AS s
    ON s.stream_id = m.stream_id AND s.partition = m.partition AND s.is_archived = m.is_archived
 WHERE m.global_position <= :last_position
   AND (:'tenant' = '' OR m.partition = :'tenant')
   AND (:'archived' <> 'skip' OR NOT m.is_archived);

\ir _copy.sql
