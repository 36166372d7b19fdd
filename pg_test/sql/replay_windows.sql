CREATE EXTENSION refold;

-- A per-batch replay hands over what half of work_mem holds, at least one event, and passes long stretches without any.
SELECT count(refold.append_events('bulk-' || g, (
  SELECT jsonb_agg(jsonb_build_object('type', 'common', 'data', n)) FROM generate_series(1, 1000) AS n)))
  FROM generate_series(1, 25) AS g;
SELECT count(refold.append_event('rare-' || g, 'rare', to_jsonb(g))) FROM generate_series(1, 3) AS g;
SELECT count(refold.append_events('more', (
  SELECT jsonb_agg(jsonb_build_object('type', 'common', 'data', n)) FROM generate_series(1, 12000) AS n)));
SELECT count(refold.append_event('large-' || g, 'rare', to_jsonb(
  (SELECT string_agg(md5(g::text || n), '') FROM generate_series(1, 2000) AS n)))) FROM generate_series(1, 3) AS g;

CREATE TABLE batch (first bigint PRIMARY KEY, events int NOT NULL, types int NOT NULL);
CREATE FUNCTION on_batch(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO batch SELECT min(e.position), count(*), count(DISTINCT e.event_type) FROM unnest(events) AS e
$$;
SET work_mem = '64kB';
SELECT events_replayed FROM refold.create_projection('batch', 'on_batch(refold.event[])', '{batch}', event_types => '{rare}');
SELECT events, types FROM batch ORDER BY first;
SELECT refold.drop_projection('batch');
TRUNCATE batch;
SET work_mem = '64MB';
SELECT events_replayed FROM refold.create_projection('batch', 'on_batch(refold.event[])', '{batch}');
SELECT sum(events), max(events) FROM batch;

-- A per-event replay in windows that grow.
CREATE TABLE total (kind text PRIMARY KEY, events int NOT NULL, last bigint NOT NULL, in_order boolean NOT NULL);
CREATE FUNCTION on_event(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO total AS t VALUES ('all', 1, event.position, true)
  ON CONFLICT (kind) DO UPDATE SET events = t.events + 1, last = excluded.last,
    in_order = t.in_order AND excluded.last = t.last + 1;
END $$;
SELECT events_replayed FROM refold.create_projection('total', 'on_event(refold.event)', '{total}');
TABLE total;
SELECT * FROM refold.verify_projection('total');

-- A per-batch replay hands over the streams one after the other, each in its order; a serial projection's as they were
-- appended. Both in batches that end where memory does.
SELECT count(refold.append_event('turn-' || n % 3, 'turn', to_jsonb(md5(n::text)))) FROM generate_series(1, 300) AS n;
CREATE TABLE seen (first bigint PRIMARY KEY, events int NOT NULL, by_stream boolean NOT NULL, by_position boolean NOT NULL);
CREATE FUNCTION on_turn(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO seen SELECT min(q.position), count(*), bool_and(q.by_stream), bool_and(q.by_position) FROM (
    SELECT e.position,
           coalesce((e.stream_id COLLATE "C", e.stream_version) > lag((e.stream_id COLLATE "C", e.stream_version)) OVER w, true)
             AS by_stream,
           coalesce(e.position > lag(e.position) OVER w, true) AS by_position
      FROM unnest(events) WITH ORDINALITY AS e WINDOW w AS (ORDER BY e.ordinality)) AS q
$$;
SET work_mem = '64kB';
SELECT events_replayed FROM refold.create_projection('turns', 'on_turn(refold.event[])', '{seen}', event_types => '{turn}');
SELECT count(*) > 1 AS several, sum(events), bool_and(by_stream) AS by_stream FROM seen;
SELECT refold.drop_projection('turns');
TRUNCATE seen;
SELECT events_replayed FROM refold.create_projection('turns', 'on_turn(refold.event[])', '{seen}', event_types => '{turn}', serial => true);
SELECT count(*) > 1 AS several, sum(events), bool_or(by_stream) AS by_stream, bool_and(by_position) AS by_position FROM seen;
