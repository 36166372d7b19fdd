-- Copies the events of a message-db store (https://github.com/message-db/message-db) into refold's log, in the same
-- database; called again, what has come since. docs/migrating.md says how to move with it.
--
--   psql --dbname=shop --file=sql/migrate/from_message_db.sql
--
-- Options, each as --set=name=value:
--   schema        where message-db is [message_store]
--   only, except  regular expressions: the streams to copy, and to leave out [all, none]
--   and those of every script: late, metadata_key, batch, patience

-- Here, not in a file that is included: the line that includes one goes by what was set before it.
\set ON_ERROR_STOP on

\set store message-db
\if :{?schema} \else \set schema message_store \endif
\set events_table messages
\set sequence messages_global_position_seq
\ir _begin.sql

SELECT pg_temp.require_json('data'), pg_temp.require_json('metadata') \g /dev/null

-- Its positions in a stream begin at 0. A message may have no data: that is JSON's null.
CREATE TEMP VIEW source AS
SELECT m.global_position AS source_position,
       m.stream_name AS stream_id,
       m.position + 1 AS stream_version,
       m.type AS event_type,
       coalesce(m.data::jsonb, 'null') AS data,
       m.metadata::jsonb AS metadata,
       m.id::text AS event_id,
       m.time AT TIME ZONE 'UTC' AS recorded_at,
       '{}'::jsonb AS note
  FROM :source_table AS m
 WHERE m.global_position <= :last_position;

\ir _copy.sql
