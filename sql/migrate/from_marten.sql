-- Copies the events of a Marten store (https://martendb.io, 4.0 and later) into refold's log, in the same database; called
-- again, what has come since. docs/migrating.md says how to move with it.
--
--   psql --dbname=shop --set=schema=events --file=sql/migrate/from_marten.sql
--
-- Options, each as --set=name=value:
--   schema        where Marten's event tables are [public]
--   tenant        copy this tenant only [the only one there is]
--   by_tenant=on  copy all tenants; each stream's id begins with its tenant and a slash
--   sequence      what numbers the events [mt_events_sequence]; a tenant with one of its own needs it, and tenant
--   archived      what becomes of archived streams: refuse, copy, skip [refuse]
--   settle        seconds to wait for clients that have drawn numbers and not begun to write [10]
--   only, except  regular expressions: the streams to copy, and to leave out [all, none]
--   and those of every script: late, metadata_key, batch, patience

-- Here, not in a file that is included: the line that includes one goes by what was set before it.
\set ON_ERROR_STOP on

\set store marten
\if :{?schema} \else \set schema public \endif
\if :{?sequence} \else \set sequence mt_events_sequence \endif
-- Marten's client may draw its numbers before the transaction in which it writes.
\if :{?settle} \else \set settle 10 \endif
\set events_table mt_events
\ir _begin.sql

SELECT pg_temp.require_json('data') \g /dev/null

-- Columns that not every version and configuration has. What refold has no column for goes into the metadata.
SELECT coalesce(string_agg(pair, ', ') FILTER (WHERE is_metadata), '') AS metadata,
       coalesce(string_agg(pair, ', ') FILTER (WHERE NOT is_metadata), '') AS noted,
       CASE WHEN bool_or(name = 'headers') THEN 'e.headers' ELSE 'NULL::jsonb' END AS headers,
       -- A payload that is not JSON has a column of its own, and {} in the usual one.
       CASE WHEN bool_or(name = 'bdata') THEN 'CASE WHEN e.bdata IS NULL THEN e.data::jsonb END' ELSE 'e.data::jsonb' END AS data
  FROM (SELECT a.attname AS name, a.attname IN ('correlation_id', 'causation_id', 'user_name') AS is_metadata,
               CASE WHEN a.attname NOT IN ('seq_id', 'id', 'stream_id', 'version', 'data', 'bdata', 'type', 'timestamp', 'headers')
                    THEN format('%L, e.%I', a.attname, a.attname) END AS pair
          FROM pg_attribute AS a
         WHERE a.attrelid = :'source_table'::regclass AND a.attnum > 0 AND NOT a.attisdropped) AS a \gset columns_

-- Where an append failed, Marten fills its numbers with events of its own, in a stream of its own.
CREATE TEMP VIEW event AS
SELECT e.* FROM :source_table AS e
 WHERE NOT (e.type = 'tombstone' AND coalesce(e.mt_dotnet_type, '') ~ '^(Marten|JasperFx)\.');

CREATE TEMP VIEW tenancy AS
SELECT e.tenant_id::text AS tenant, e.is_archived, e.seq_id AS source_position FROM pg_temp.event AS e;
\ir _tenants.sql

SELECT format('%I.mt_streams', :'schema') AS streams_table \gset
CREATE TEMP VIEW source AS
SELECT e.seq_id AS source_position,
       CASE WHEN :'by_tenant'::boolean THEN e.tenant_id || '/' || e.stream_id ELSE e.stream_id::text END AS stream_id,
       e.version::bigint AS stream_version,
       e.type::text AS event_type,
       :columns_data AS data,
       jsonb_strip_nulls(jsonb_build_object(:columns_metadata)) || coalesce(:columns_headers, '{}') AS metadata,
       e.id::text AS event_id,
       e.timestamp AS recorded_at,
       jsonb_strip_nulls(jsonb_build_object(:columns_noted) || jsonb_build_object('stream_type', s.type)) AS note
  FROM pg_temp.event AS e
  LEFT JOIN :streams_table AS s ON s.id = e.stream_id AND s.tenant_id = e.tenant_id
 WHERE e.seq_id <= :last_position
   AND (:'tenant' = '' OR e.tenant_id = :'tenant')
   AND (:'archived' <> 'skip' OR e.is_archived IS NOT TRUE);

\ir _copy.sql
