-- An append that has skipped reads the status again before it commits. The status can change between the two.
CREATE FUNCTION before_commit(appended bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM applied WHERE position = appended) THEN
        PERFORM apply(s.name, s.version, e)
        FROM projection_status s, event e
        WHERE s.name = 'sku_sales' AND s.status = 'active' AND e.position = appended;
    END IF;
END
$$;
