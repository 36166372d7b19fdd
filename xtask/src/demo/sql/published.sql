-- The shop on the published protocol, in plain SQL: an advisory try-lock and a status column.
--
-- An append applies a projection inline if it gets a shared lock on it and finds it active; otherwise it skips it and
-- trusts the rebuild to pick the event up. A rebuild waits for the exclusive lock (so for every append that applies),
-- says so in the status, empties the model, replays until it sees no more events, and sets the projection active again.
--
-- Where the published text leaves a choice, this takes the one that loses less:
--   * the status is read after the lock was had, in a snapshot of its own;
--   * a replay looks for every event it has not replayed, so a position that commits late is not passed over.
-- What it loses in spite of that is the blind spot: an append that skipped, and commits after the last look.

CREATE TABLE projection_status (
    name    text PRIMARY KEY,
    status  text NOT NULL CHECK (status IN ('active', 'rebuilding')),
    version int NOT NULL                            -- of the handler
);
INSERT INTO projection_status VALUES ('cart', 'active', 1), ('sku_sales', 'active', 1);

CREATE FUNCTION lock_key(projection text) RETURNS bigint IMMUTABLE LANGUAGE sql AS $$
    SELECT ('x' || substr(md5(projection), 1, 16))::bit(64)::bigint
$$;

CREATE FUNCTION apply(projection text, version int, event event) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    before cart;
    after  cart;
BEGIN
    IF projection = 'cart' THEN
        SELECT * INTO before FROM cart WHERE cart_id = event.stream_id;
        after := CASE version WHEN 1 THEN cart_v1(before, event) ELSE cart_v2(before, event) END;
        INSERT INTO cart SELECT (after).*
        ON CONFLICT (cart_id) DO UPDATE SET
            (items, total, removed, vouchers, checked_out, versions, repeats, out_of_order) =
            (excluded.items, excluded.total, excluded.removed, excluded.vouchers, excluded.checked_out,
             excluded.versions, excluded.repeats, excluded.out_of_order);
    ELSIF event.event_type IN ('item_added', 'item_removed') THEN
        IF version = 1 THEN
            PERFORM sku_sales_v1(event);
        ELSE
            PERFORM sku_sales_v2(event);
        END IF;
    END IF;
END
$$;

CREATE FUNCTION append_event(stream_id text, event_type text, data jsonb,
                             OUT stream_version bigint, OUT "position" bigint) LANGUAGE plpgsql AS $$
DECLARE
    appended   event;
    projection text;
    handler    int;
BEGIN
    INSERT INTO stream AS s VALUES (append_event.stream_id, 1)
    ON CONFLICT ON CONSTRAINT stream_pkey DO UPDATE SET version = s.version + 1
    RETURNING s.version INTO stream_version;

    INSERT INTO event AS e (stream_id, stream_version, event_type, data)
    VALUES (append_event.stream_id, append_event.stream_version, append_event.event_type, append_event.data)
    RETURNING e.* INTO appended;
    "position" := appended.position;

    FOREACH projection IN ARRAY ARRAY['cart', 'sku_sales'] LOOP
        IF pg_try_advisory_xact_lock_shared(lock_key(projection)) THEN
            SELECT version INTO handler FROM projection_status WHERE name = projection AND status = 'active';
            IF FOUND THEN
                PERFORM apply(projection, handler, appended);
            END IF;
        END IF;
    END LOOP;
END
$$;

CREATE PROCEDURE rebuild(projection text, handler int) LANGUAGE plpgsql AS $$
DECLARE
    next event;
BEGIN
    PERFORM pg_advisory_lock(lock_key(projection));
    UPDATE projection_status SET status = 'rebuilding', version = handler WHERE name = projection;
    COMMIT;

    IF projection = 'cart' THEN
        TRUNCATE cart;
    ELSE
        TRUNCATE sku_sales, applied;
    END IF;
    CREATE TEMP TABLE IF NOT EXISTS replayed (position bigint PRIMARY KEY);
    TRUNCATE replayed;
    COMMIT;

    LOOP
        FOR next IN
            SELECT e.* FROM event e
            WHERE NOT EXISTS (SELECT FROM replayed r WHERE r.position = e.position)
            ORDER BY e.position LIMIT 1000
        LOOP
            PERFORM apply(projection, handler, next);
            INSERT INTO replayed VALUES (next.position);
        END LOOP;
        EXIT WHEN NOT FOUND;
        COMMIT;
    END LOOP;

    UPDATE projection_status SET status = 'active' WHERE name = projection;
    COMMIT;
    PERFORM pg_advisory_unlock(lock_key(projection));
END
$$;

-- What the verdict reads.
CREATE VIEW event_log AS
SELECT position, stream_id, stream_version, event_type, data FROM event;
