-- Follows the log without a pause, inside the server. Nothing is rolled back meanwhile, so positions have no gaps.
DO $$
DECLARE
    started CONSTANT timestamptz := clock_timestamp();
    last bigint := 0;
    got bigint;
    top bigint;
BEGIN
    WHILE clock_timestamp() < started + current_setting('stress.follow')::interval LOOP
        SELECT count(*), max(position) INTO got, top FROM refold.read_all(last, 1000);
        COMMIT;
        IF got > 0 AND top - last <> got THEN
            RAISE 'read_all missed events' USING DETAIL = format('After %s it gave %s events up to %s.', last, got, top);
        END IF;
        last := coalesce(top, last);
    END LOOP;
END
$$
