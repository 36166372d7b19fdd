-- Copies what the view source has and the log has not, in the order of the source, and proves it.
--
-- Before: the view source, of (source_position, stream_id, stream_version, event_type, data, metadata, event_id text,
-- recorded_at, note); in note is what refold has no column for.
--
-- Everything that can be refused is refused before the first event is written. Into a new store the events are inserted as
-- a restore's are: with the times they have, in one transaction. Into one that is in use they are appended, projections
-- applied, in a transaction for each batch: what is there if one fails is the beginning of the log, and the next call goes
-- on behind it.

SELECT format('%s:%s:', :'store', :'schema') AS namespace, i.opened_on IS NULL AS is_new FROM refold.installation AS i \gset

-- known_at: where the log has the event already. An id that is no UUID becomes one, always the same.
CREATE TEMP TABLE migrating AS
SELECT s.source_position, s.stream_id, s.stream_version, s.event_type, i.event_id, s.recorded_at, e.position AS known_at,
       (e.stream_id, e.stream_version, e.event_type, e.data) = (s.stream_id, s.stream_version, s.event_type, s.data) AS is_same,
       s.metadata ? :'metadata_key' AS is_key_taken,
       CASE WHEN e.position IS NULL THEN s.data END AS data,
       CASE WHEN e.position IS NULL THEN
         CASE WHEN jsonb_typeof(s.metadata) = 'object' THEN s.metadata ELSE '{}' END
         || jsonb_build_object(:'metadata_key',
              jsonb_build_object('store', :'store', 'position', s.source_position, 'recorded_at', s.recorded_at)
              || CASE WHEN i.is_uuid THEN '{}' ELSE jsonb_build_object('event_id', s.event_id) END
              || CASE WHEN jsonb_typeof(s.metadata) <> 'object' THEN jsonb_build_object('metadata', s.metadata) ELSE '{}' END
              || s.note)
       END AS metadata
  FROM source AS s
 CROSS JOIN LATERAL (SELECT s.event_id ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' AS is_uuid) AS u
 CROSS JOIN LATERAL (SELECT u.is_uuid, CASE WHEN u.is_uuid THEN s.event_id::uuid
           -- RFC 9562, version 8: the rest is the application's own.
           ELSE overlay(overlay(encode(substr(sha256(convert_to(:'namespace' || s.event_id, 'UTF8')), 1, 16), 'hex')
                                placing '8' from 13) placing '8' from 17)::uuid END AS event_id) AS i
  LEFT JOIN refold.event AS e ON e.event_id = i.event_id
 WHERE (s.stream_id ~ :'only') IS NOT FALSE AND (:'except' = '' OR (s.stream_id !~ :'except') IS NOT FALSE);
CREATE INDEX ON migrating (source_position) WHERE known_at IS NULL;
ANALYZE migrating;

-- What the log cannot hold.
DO $$
DECLARE
  leave text := 'Mend it in the old store, or leave the stream out: --set=except=EXPRESSION.';
BEGIN
  PERFORM pg_temp.refuse('22004', format('an event of the old store has no %s', missing), format('It is number %s.', source_position), leave)
     FROM (SELECT m.source_position,
                  CASE WHEN m.stream_id IS NULL THEN 'stream' WHEN m.event_type IS NULL THEN 'type' WHEN m.event_id IS NULL THEN 'id'
                       WHEN m.stream_version IS NULL THEN 'version' WHEN m.recorded_at IS NULL THEN 'time'
                       WHEN m.data IS NULL AND m.known_at IS NULL THEN 'payload that is JSON' END AS missing
             FROM migrating AS m) AS m
    WHERE missing IS NOT NULL ORDER BY source_position LIMIT 1;
  PERFORM pg_temp.refuse('54000', format('an event of the old store is over a limit of refold: %s', excess), format('It is number %s.', source_position), leave)
     FROM (SELECT m.source_position,
                  CASE WHEN octet_length(m.stream_id) > 1024 THEN 'a stream''s id has at most 1024 bytes'
                       WHEN octet_length(m.event_type) > 256 THEN 'a type has at most 256 bytes'
                       WHEN '' IN (m.stream_id, m.event_type) THEN 'stream and type must not be empty'
                       WHEN pg_column_size(m.data) > 65536 AND octet_length(m.data::text) > 16777216
                         OR pg_column_size(m.metadata) > 65536 AND octet_length(m.metadata::text) > 16777216
                       THEN 'data and metadata have at most 16 MiB each' END AS excess
             FROM migrating AS m) AS m
    WHERE excess IS NOT NULL ORDER BY source_position LIMIT 1;
  PERFORM pg_temp.refuse('23505', format('the metadata of an event has a key %s of its own', pg_temp.option('metadata_key')),
           format('It is number %s.', m.source_position), 'Give another key for what refold has no column for: --set=metadata_key=NAME.')
     FROM migrating AS m WHERE m.is_key_taken AND m.known_at IS NULL ORDER BY m.source_position LIMIT 1;
  PERFORM pg_temp.refuse('0A000', format('two events of the old store have the number %s', m.source_position),
           'So they have no order.', 'Copy one tenant at a time: --set=tenant=NAME.')
     FROM migrating AS m GROUP BY m.source_position HAVING count(*) > 1 ORDER BY m.source_position LIMIT 1;
  PERFORM pg_temp.refuse('23505', format('two events of the old store have the id %s', m.event_id),
           format('They are numbers %s and %s.', min(m.source_position), max(m.source_position)), leave)
     FROM migrating AS m GROUP BY m.event_id HAVING count(*) > 1 ORDER BY min(m.source_position) LIMIT 1;
  PERFORM pg_temp.refuse('22023', format('stream "%s" is not numbered without holes in the order of the old store', stream_id),
           format('Its event with the number %s would be version %s, and comes where %s should.', source_position, stream_version, due), leave)
     FROM (SELECT m.stream_id, m.stream_version, m.source_position,
                  row_number() OVER (PARTITION BY m.stream_id ORDER BY m.source_position) AS due
             FROM migrating AS m) AS m
    WHERE stream_version <> due ORDER BY source_position LIMIT 1;
END $$;

-- What the log has already.
DO $$
BEGIN
  PERFORM pg_temp.refuse('23505', format('event %s of the old store is in the log as another', m.source_position),
           format('The log has its id, %s, with another stream, version, type or data, at position %s.', m.event_id, m.known_at),
           'It was changed since it was copied, or another store has the same id. The log cannot be changed: undo the change in the old store.')
     FROM migrating AS m WHERE m.known_at IS NOT NULL AND m.is_same IS NOT TRUE ORDER BY m.source_position LIMIT 1;
  PERFORM pg_temp.refuse('55000', format('stream "%s" of the log has events that the old store''s has not', e.stream_id),
           format('The first is version %s, at position %s.', e.stream_version, e.position),
           'Whoever copies a stream must be the only one who writes to it. Leave the stream out: --set=except=EXPRESSION.')
     FROM refold.event AS e
    WHERE e.stream_id IN (SELECT m.stream_id FROM migrating AS m)
      AND NOT EXISTS (SELECT FROM migrating AS m WHERE m.event_id = e.event_id)
    ORDER BY e.position LIMIT 1;
  PERFORM pg_temp.refuse('55000', format('event %s of the old store comes too late', m.source_position),
           format('The log has events up to %s of the old store, and not this one.', known.last),
           'It was written, or first asked for, after a copy that went beyond it. To have it behind those, in order within its stream: --set=late=append.')
     FROM migrating AS m, (SELECT max(k.source_position) AS last FROM migrating AS k WHERE k.known_at IS NOT NULL) AS known
    WHERE m.known_at IS NULL AND m.source_position < known.last AND pg_temp.option('late') = 'refuse'
    ORDER BY m.source_position LIMIT 1;
END $$;

CREATE FUNCTION pg_temp.append_batch(first bigint, last bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  event record;
BEGIN
  FOR event IN SELECT m.* FROM migrating AS m
                WHERE m.known_at IS NULL AND m.source_position BETWEEN first AND last ORDER BY m.source_position LOOP
    PERFORM FROM refold.append_event(event.stream_id, event.event_type, event.data, event.metadata,
                                     event.stream_version - 1, event.event_id);
  END LOOP;
END $$;

-- Every event of the source is in the log, as it should be, in order; and its streams have no other. Raises if not.
CREATE FUNCTION pg_temp.prove(with_times boolean) RETURNS void LANGUAGE plpgsql SET enable_nestloop = off AS $$
DECLARE
  again text := 'Report this, with the old store''s version.';
BEGIN
  PERFORM pg_temp.refuse('23000', format('event %s of the old store is not in the log as it should be', m.source_position), NULL, again)
     FROM migrating AS m LEFT JOIN refold.event AS e ON e.event_id = m.event_id
    WHERE e.stream_id IS DISTINCT FROM m.stream_id OR e.stream_version <> m.stream_version OR e.event_type <> m.event_type
       OR m.known_at IS NULL
          AND (e.data <> m.data OR e.metadata <> m.metadata OR with_times AND e.recorded_at <> m.recorded_at)
    ORDER BY m.source_position LIMIT 1;
  PERFORM pg_temp.refuse('23000', format('stream "%s" of the log is not that of the old store', stream_id),
           format('It has %s events, up to version %s, instead of %s.', e.n, e.last, m.n), again)
     FROM (SELECT m.stream_id, count(*) AS n FROM migrating AS m GROUP BY m.stream_id) AS m
     LEFT JOIN (SELECT e.stream_id, count(*) AS n, max(e.stream_version) AS last FROM refold.event AS e GROUP BY e.stream_id) AS e
          USING (stream_id)
    WHERE (e.n, e.last) IS DISTINCT FROM (m.n, m.n) LIMIT 1;
  PERFORM pg_temp.refuse('23000', format('event %s of the old store is not where it should be in the log', source_position),
           format('At position %s it comes after event %s.', position, before), again)
     FROM (SELECT e.position, m.source_position, lag(m.source_position) OVER (ORDER BY e.position) AS before
             FROM migrating AS m JOIN refold.event AS e ON e.event_id = m.event_id WHERE m.known_at IS NULL) AS m
    WHERE before > source_position LIMIT 1;
END $$;

\if :is_new
BEGIN;
INSERT INTO refold.event (stream_id, stream_version, event_type, data, metadata, event_id, recorded_at, horizon)
SELECT m.stream_id, m.stream_version, m.event_type, m.data, m.metadata, m.event_id, m.recorded_at, pg_current_xact_id()
  FROM migrating AS m WHERE m.known_at IS NULL ORDER BY m.source_position;
ANALYZE refold.event;
DO $$ BEGIN PERFORM pg_temp.prove(with_times => true); END $$;
COMMIT;
\else
-- As the handlers of the projections know them.
RESET row_security;
RESET enable_nestloop;
SELECT format('DO $batch$ BEGIN PERFORM pg_temp.append_batch(%s, %s); END $batch$', min(source_position), max(source_position))
  FROM (SELECT m.source_position, (row_number() OVER (ORDER BY m.source_position) - 1) / :batch AS batch
          FROM migrating AS m WHERE m.known_at IS NULL) AS m
 GROUP BY batch ORDER BY batch
\gexec
DO $$ BEGIN PERFORM pg_temp.prove(with_times => false); END $$;
\endif

SELECT pg_advisory_unlock(8390876214023812455) \g /dev/null
SELECT count(*) FILTER (WHERE m.known_at IS NULL) AS copied, count(*) AS events, count(DISTINCT m.stream_id) AS streams
  FROM migrating AS m \gset
\echo :copied events were copied. The log has all :events events of the :streams streams, each at its version.
