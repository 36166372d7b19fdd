-- $1: streams; $2: for each, its events as a JSON array.
SELECT count(*)
FROM unnest($1::text[], $2::text[]) AS chunk (stream_id, events)
CROSS JOIN LATERAL refold.append_events(chunk.stream_id, chunk.events::jsonb)
