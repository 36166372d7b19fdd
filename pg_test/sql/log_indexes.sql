-- Indexes that a superuser adds to the log or builds anew: an append finds its stream's last version all the same.
CREATE EXTENSION refold;
SELECT count(refold.append_event('s', 'added', '{}')) FROM generate_series(1, 3);

-- With the versions in descending order; the log's own index gets another OID, behind it.
CREATE UNIQUE INDEX latest_first ON refold.event (stream_id, stream_version DESC);
SELECT stream_version FROM refold.append_event('s', 'added', '{}');
REINDEX TABLE CONCURRENTLY refold.event;
SELECT stream_version FROM refold.append_event('s', 'added', '{}');
\c
REINDEX INDEX CONCURRENTLY refold.event_stream_version_key;
SELECT stream_version FROM refold.append_event('s', 'added', '{}');
DROP INDEX refold.latest_first;
SELECT stream_version FROM refold.append_event('s', 'added', '{}');
