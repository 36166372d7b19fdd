CREATE EXTENSION refold;
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/jobs.sql'
\i :include

-- One log, read by every kind of handler; each is rebuilt beside its live tables, with a new handler, and in place.
SELECT count(refold.append_event('s-' || n % 7, CASE n % 4 WHEN 0 THEN 'removed' ELSE 'added' END,
    jsonb_build_object('sku', 'sku ' || n % 5, 'n', n))) FROM generate_series(1, 200) AS n;

-- A fold with a key of several columns over several streams.
CREATE TABLE sku_day (sku text, odd boolean, n bigint, last text, PRIMARY KEY (sku, odd));
CREATE FUNCTION sku_key(event refold.event) RETURNS record LANGUAGE sql IMMUTABLE AS 'SELECT NULL::record';
DROP FUNCTION sku_key(refold.event);
CREATE TYPE sku_day_key AS (sku text, odd boolean);
CREATE FUNCTION sku_key(event refold.event) RETURNS sku_day_key LANGUAGE sql IMMUTABLE AS $$
  SELECT event.data->>'sku', (event.data->>'n')::int % 2 = 1
$$;
CREATE FUNCTION fold_sku(state sku_day, event refold.event) RETURNS sku_day LANGUAGE sql AS $$
  SELECT event.data->>'sku', (event.data->>'n')::int % 2 = 1, coalesce(state.n, 0) + 1, event.stream_id
$$;
CREATE FUNCTION fold_sku_2(state sku_day, event refold.event) RETURNS sku_day LANGUAGE sql AS $$
  SELECT event.data->>'sku', (event.data->>'n')::int % 2 = 1, coalesce(state.n, 0) + 100, event.stream_id
$$;
SELECT generation FROM refold.create_projection('sku', 'fold_sku(sku_day, refold.event)', key => 'sku_key(refold.event)');

-- Per event, into two tables of which one refers to the other's rows by an ON CONFLICT ON CONSTRAINT, with a filter.
CREATE TABLE item (sku text, n bigint NOT NULL, note text, CONSTRAINT one_sku PRIMARY KEY (sku), CONSTRAINT note_once UNIQUE (note));
CREATE TABLE seen (event_position bigint PRIMARY KEY, sku text NOT NULL, long text DEFAULT repeat('long ', 1000));
CREATE INDEX seen_sku ON seen (sku) WHERE sku <> 'sku 1';
CREATE FUNCTION on_added(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO item AS i VALUES (event.data->>'sku', 1, 'note ' || (event.data->>'sku'))
    ON CONFLICT ON CONSTRAINT one_sku DO UPDATE SET n = i.n + 1;
  INSERT INTO seen (event_position, sku) VALUES (event.position, event.data->>'sku');
END $$;
CREATE FUNCTION on_added_2(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO item AS i VALUES (event.data->>'sku', 100, 'note ' || (event.data->>'sku'))
    ON CONFLICT ON CONSTRAINT one_sku DO UPDATE SET n = i.n + 100;
  INSERT INTO seen (event_position, sku) VALUES (event.position, upper(event.data->>'sku'));
END $$;
SELECT generation FROM refold.create_projection('item', 'on_added(refold.event)', '{item, seen}', '{added}');

-- Per batch.
CREATE TABLE sold (sku text PRIMARY KEY, n bigint NOT NULL);
CREATE FUNCTION on_batch(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO sold AS s SELECT e.data->>'sku', count(*) FROM unnest(events) AS e GROUP BY 1
  ON CONFLICT (sku) DO UPDATE SET n = s.n + excluded.n
$$;
CREATE FUNCTION on_batch_2(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO sold AS s SELECT e.data->>'sku', 100 * count(*) FROM unnest(events) AS e GROUP BY 1
  ON CONFLICT (sku) DO UPDATE SET n = s.n + excluded.n
$$;
SELECT generation FROM refold.create_projection('sold', 'on_batch(refold.event[])', '{sold}');

-- Serial: rows that take events of all streams, in order.
CREATE TABLE last_of (sku text PRIMARY KEY, streams text);
CREATE FUNCTION on_last(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO last_of AS l VALUES (event.data->>'sku', event.stream_id)
  ON CONFLICT (sku) DO UPDATE SET streams = right(l.streams || ',' || event.stream_id, 40)
$$;
CREATE FUNCTION on_last_2(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO last_of AS l VALUES (event.data->>'sku', event.stream_id)
  ON CONFLICT (sku) DO UPDATE SET streams = right(l.streams || ';' || event.stream_id, 60)
$$;
SELECT generation FROM refold.create_projection('last', 'on_last(refold.event)', '{last_of}', serial => true);

CREATE VIEW models AS
  SELECT 'sku' AS model, count(*), sum(n), md5(string_agg(s::text, ';' ORDER BY sku, odd)) FROM sku_day AS s
  UNION ALL SELECT 'item', count(*), sum(n), md5(string_agg(i::text, ';' ORDER BY sku)) FROM item AS i
  UNION ALL SELECT 'seen', count(*), count(DISTINCT sku), md5(string_agg(concat(s.sku, length(long)), ';' ORDER BY event_position)) FROM seen AS s
  UNION ALL SELECT 'sold', count(*), sum(n), md5(string_agg(s::text, ';' ORDER BY sku)) FROM sold AS s
  UNION ALL SELECT 'last', count(*), NULL, md5(string_agg(l::text, ';' ORDER BY sku)) FROM last_of AS l;
CREATE VIEW verified AS
  SELECT p.name, v.* FROM refold.projections AS p LEFT JOIN LATERAL refold.verify_projection(p.name) AS v ON true ORDER BY p.name;
CREATE TEMP TABLE before AS TABLE models;
TABLE models;

-- The same handlers: nothing changes.
CALL refold.rebuild_projection_concurrently('sku');
CALL refold.rebuild_projection_concurrently('item');
CALL refold.rebuild_projection_concurrently('sold');
CALL refold.rebuild_projection_concurrently('last');
TABLE models EXCEPT TABLE before;
TABLE verified;
CALL refold.rebuild_projection_concurrently('sku', in_place => true);
CALL refold.rebuild_projection_concurrently('item', in_place => true);
CALL refold.rebuild_projection_concurrently('sold', in_place => true);
CALL refold.rebuild_projection_concurrently('last', in_place => true);
TABLE models EXCEPT TABLE before;
TABLE verified;

-- Other handlers, and appends that go on with them.
CALL refold.rebuild_projection_concurrently('sku', 'fold_sku_2(sku_day, refold.event)', verify => true);
CALL refold.rebuild_projection_concurrently('item', 'on_added_2(refold.event)', verify => true);
CALL refold.rebuild_projection_concurrently('sold', 'on_batch_2(refold.event[])', verify => true);
CALL refold.rebuild_projection_concurrently('last', 'on_last_2(refold.event)', verify => true);
TABLE models;
SELECT count(refold.append_event('s-' || n % 7, CASE n % 4 WHEN 0 THEN 'removed' ELSE 'added' END,
    jsonb_build_object('sku', 'sku ' || n % 6, 'n', n))) FROM generate_series(1, 20) AS n;
TABLE verified;
TABLE models;
CALL refold.rebuild_projection_concurrently('sku', 'fold_sku(sku_day, refold.event)', in_place => true);
CALL refold.rebuild_projection_concurrently('item', 'on_added(refold.event)', in_place => true);
CALL refold.rebuild_projection_concurrently('sold', 'on_batch(refold.event[])', in_place => true);
CALL refold.rebuild_projection_concurrently('last', 'on_last(refold.event)', in_place => true);
TABLE models;
TABLE verified;
SELECT n, note FROM item ORDER BY sku;
SELECT relation::regclass, key, live, rebuilt FROM refold.verify_projection('item');

-- The tables are the ones they were, with valid indexes, and constraints that hold.
SELECT c.relname, i.indisvalid, i.indisready, c.relpersistence FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
  WHERE i.indrelid IN ('sku_day'::regclass, 'item'::regclass, 'seen'::regclass, 'sold'::regclass, 'last_of'::regclass) ORDER BY 1;
INSERT INTO item VALUES ('sku 1', 1, 'x');
INSERT INTO item VALUES ('new', 1, 'note sku 1');
CREATE EXTENSION amcheck;
SELECT c.relname, bt_index_check(c.oid, true) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
  WHERE i.indrelid IN ('sku_day'::regclass, 'item'::regclass, 'seen'::regclass, 'sold'::regclass, 'last_of'::regclass) ORDER BY 1;
SELECT projection, kind, state, count(*) FROM refold.rebuild_jobs GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');

-- A projection that is made by a job.
CREATE TABLE late (stream_id text PRIMARY KEY, n int);
CREATE FUNCTION fold_late(state late, event refold.event) RETURNS late LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 1
$$;
SELECT generation, events_replayed, rows_inserted FROM refold.create_projection('late', 'fold_late(late, refold.event)', build => false);
SELECT state, generation, lag FROM refold.projections WHERE name = 'late';
SELECT refold.append_event('s-1', 'added', '{"sku": "late", "n": 1}') IS NOT NULL AS appended;
TABLE late;
CALL refold.rebuild_projection_concurrently('late');
SELECT state, generation, lag FROM refold.projections WHERE name = 'late';
SELECT kind, state FROM jobs WHERE projection = 'late';
SELECT count(*), sum(n) FROM late;
SELECT * FROM refold.verify_projection('late');
SELECT refold.create_projection('none', 'fold_late(late, refold.event)', build => NULL);

-- Or by the atomic rebuild.
CREATE TABLE later (LIKE late INCLUDING ALL);
CREATE FUNCTION fold_late(state later, event refold.event) RETURNS later LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 1
$$;
SELECT generation FROM refold.create_projection('later', 'fold_late(later, refold.event)', build => false);
SELECT generation, events_replayed = (SELECT count(*) FROM refold.event) AS all_events FROM refold.rebuild_projection('later');
SELECT state, generation, lag FROM refold.projections WHERE name = 'later';
SELECT * FROM refold.verify_projection('later');
SELECT refold.append_event('s-1', 'added', '{"sku": "late", "n": 1}') IS NOT NULL AS appended;
SELECT count(*), sum(n) FROM later;
