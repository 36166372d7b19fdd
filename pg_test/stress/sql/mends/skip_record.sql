-- An append that has skipped says so, and the rebuild applies what was skipped once it has released its lock: after a
-- later event of the same stream, which found the projection active.
CREATE TABLE skipped (position bigint PRIMARY KEY);

CREATE FUNCTION before_commit(appended bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO skipped
    SELECT e.position FROM event e LEFT JOIN cart c ON c.cart_id = e.stream_id
    WHERE e.position = appended AND (c.versions @> e.stream_version) IS NOT TRUE
$$;

ALTER PROCEDURE rebuild(text, int) RENAME TO rebuild_once;

-- What the rebuild has replayed needs no drain.
CREATE PROCEDURE rebuild(projection text, handler int) LANGUAGE plpgsql AS $$
DECLARE
    next event;
BEGIN
    CALL rebuild_once(projection, handler);
    -- Longer than any append's transaction: nobody can write a record any more.
    FOR pass IN 1..10 LOOP
        FOR next IN
            WITH drained AS (DELETE FROM skipped RETURNING position)
            SELECT e.* FROM event e JOIN drained d ON d.position = e.position
            WHERE (SELECT c.versions @> e.stream_version FROM cart c WHERE c.cart_id = e.stream_id) IS NOT TRUE
            ORDER BY e.position
        LOOP
            -- One at a time applies a stream's events.
            PERFORM FROM stream s WHERE s.stream_id = next.stream_id FOR UPDATE;
            PERFORM apply(projection, handler, next);
        END LOOP;
        COMMIT;
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
