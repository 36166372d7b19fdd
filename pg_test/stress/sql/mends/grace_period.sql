-- After last_check.sql: the rebuild waits before it looks once more. A transaction can outlive any period.
ALTER PROCEDURE rebuild(text, int) RENAME TO rebuild_and_check;
ALTER PROCEDURE rebuild_once(text, int) RENAME TO rebuild_at_once;

CREATE PROCEDURE rebuild_once(projection text, handler int) LANGUAGE plpgsql AS $$
BEGIN
    CALL rebuild_at_once(projection, handler);
    PERFORM pg_sleep(0.02);
    COMMIT;
END
$$;

ALTER PROCEDURE rebuild_and_check(text, int) RENAME TO rebuild;
