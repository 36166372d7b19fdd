-- Run as the superuser in an empty database: projections of each kind whose handlers fail when an event says so.

CREATE EXTENSION refold;

CREATE FUNCTION fail_if_told(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF event.stream_id = current_setting('endurance.fail', true) THEN
        RAISE EXCEPTION 'the session is to fail' USING ERRCODE = 'ZX125';
    END IF;
    CASE event.data->>'fail'
        WHEN 'raise' THEN
            RAISE EXCEPTION 'told to fail' USING ERRCODE = 'ZX123', DETAIL = 'a detail', HINT = 'a hint';
        WHEN 'divide' THEN
            PERFORM 1 / 0;
        WHEN 'append' THEN
            PERFORM refold.append_event('other', 'tick', '{}');
        WHEN 'sleep' THEN
            PERFORM pg_sleep(60);
        WHEN 'caught' THEN
            BEGIN
                RAISE EXCEPTION 'caught by the handler';
            EXCEPTION WHEN OTHERS THEN
                NULL;
            END;
        ELSE
            NULL;
    END CASE;
END
$$;

-- Per event, with a second unique key.
CREATE TABLE line (position bigint PRIMARY KEY, code text UNIQUE);
CREATE FUNCTION write_line(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fail_if_told(event);
    INSERT INTO line VALUES (event.position, event.data->>'code');
END
$$;

-- Per batch.
CREATE TABLE sum_of (kind text PRIMARY KEY, n bigint NOT NULL);
CREATE FUNCTION sum_up(events refold.event[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fail_if_told(e::refold.event) FROM unnest(events) AS e;
    INSERT INTO sum_of AS s SELECT e.event_type, count(*) FROM unnest(events) AS e GROUP BY 1
        ON CONFLICT (kind) DO UPDATE SET n = s.n + excluded.n;
END
$$;

-- A fold by its stream, and one by the key of a function.
CREATE TABLE stream (stream_id text PRIMARY KEY, n bigint NOT NULL);
CREATE FUNCTION fold_stream(state stream, event refold.event) RETURNS stream LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fail_if_told(event);
    RETURN ROW(coalesce(event.data->>'row', event.stream_id), coalesce(state.n, 0) + 1)::stream;
END
$$;
CREATE TABLE shelf (sku text PRIMARY KEY, n bigint NOT NULL CHECK (n < 1000000000));
CREATE FUNCTION shelf_of(event refold.event) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF event.data ? 'keyless' THEN
        RAISE EXCEPTION 'no key' USING ERRCODE = 'ZX124';
    END IF;
    RETURN 'shelf ' || event.stream_version % 10;
END
$$;
CREATE FUNCTION fold_shelf(state shelf, event refold.event) RETURNS shelf LANGUAGE plpgsql AS $$
BEGIN
    PERFORM fail_if_told(event);
    RETURN ROW(coalesce(state.sku, shelf_of(event)), coalesce(state.n, 0) + coalesce((event.data->>'n')::bigint, 1))::shelf;
END
$$;

DO $$
BEGIN
    PERFORM refold.create_projection('line', 'write_line(refold.event)', '{line}', '{line}');
    PERFORM refold.create_projection('sum', 'sum_up(refold.event[])', '{sum_of}', '{sum,tick}');
    PERFORM refold.create_projection('stream', 'fold_stream(stream, refold.event)', event_types => '{stream,tick}');
    PERFORM refold.create_projection('shelf', 'fold_shelf(shelf, refold.event)', event_types => '{shelf,tick}',
        key => 'shelf_of(refold.event)');
END
$$;
SELECT refold.append_event('one', 'line', '{"code": "taken"}', event_id => '018f0000-0000-7000-8000-000000000001');

SELECT refold.append_event('one', 'tick', '{}');

-- What the session's memory contexts hold. PostgreSQL notes which operator a name means on each search_path: a rebuild's
-- has the OID of a schema of its own. A hash table that is emptied keeps its memory.
CREATE FUNCTION memory(OUT contexts bigint, OUT bytes bigint) LANGUAGE sql AS $$
    SELECT count(*), sum(used_bytes)::bigint FROM pg_backend_memory_contexts WHERE name <> 'Operator lookup cache'
$$;

-- Sends more than 4096 invalidations: two for each column that comes or goes.
CREATE PROCEDURE change_catalogs() LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE (SELECT format('CREATE TABLE wide (%s)', string_agg('c' || n || ' int', ', ')) FROM generate_series(1, 1500) AS n);
    DROP TABLE wide;
END
$$;

CREATE TABLE counter (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO counter SELECT id, 0 FROM generate_series(1, 3) AS id;

-- Runs a statement so many times, all in one transaction. It must always fail as expected, each time in a
-- subtransaction of its own; or never where nothing is expected. Gives the memory after the first tenth and at the end.
CREATE PROCEDURE repeat(statement text, expected text, times int,
    INOUT contexts_before bigint = 0, INOUT bytes_before bigint = 0, INOUT contexts bigint = 0, INOUT bytes bigint = 0)
LANGUAGE plpgsql AS $$
BEGIN
    FOR number IN 1 .. times LOOP
        IF expected IS NULL THEN
            EXECUTE statement;
        ELSE
            BEGIN
                EXECUTE statement;
                RAISE EXCEPTION USING ERRCODE = 'ZX999';
            EXCEPTION WHEN OTHERS THEN
                IF SQLSTATE <> expected THEN
                    RAISE EXCEPTION 'expected SQLSTATE %, found %: %', expected, SQLSTATE, SQLERRM;
                END IF;
            END;
        END IF;
        IF number = times / 10 THEN
            SELECT m.contexts, m.bytes INTO contexts_before, bytes_before FROM memory() AS m;
        END IF;
    END LOOP;
    SELECT m.contexts, m.bytes INTO contexts, bytes FROM memory() AS m;
END
$$;
