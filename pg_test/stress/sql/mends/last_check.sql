-- After it has released its lock, the rebuild looks once more for events that the model lacks. In vain if the append that
-- skipped has still not committed.
ALTER PROCEDURE rebuild(text, int) RENAME TO rebuild_once;

CREATE PROCEDURE rebuild(projection text, handler int) LANGUAGE plpgsql AS $$
DECLARE
    next event;
BEGIN
    CALL rebuild_once(projection, handler);
    FOR next IN SELECT * FROM event e WHERE NOT EXISTS (SELECT FROM applied a WHERE a.position = e.position) LOOP
        PERFORM apply(projection, handler, next);
    END LOOP;
END
$$;
