-- The shop's two read models and both versions of their handlers. refold and the published protocol run this same file,
-- so the models can be compared line by line.
--
-- Each model also counts what was applied to it, so that lost and doubled events can be counted exactly:
-- `cart` remembers the versions of its stream it has seen, `applied` how often each position was.

CREATE TABLE cart (
    cart_id      text PRIMARY KEY,
    items        bigint NOT NULL,
    total        bigint NOT NULL,                   -- in cents
    removed      bigint NOT NULL,                   -- version 2 only
    vouchers     bigint NOT NULL,                   -- version 2 only, in cents
    checked_out  boolean NOT NULL,
    versions     int8multirange NOT NULL,           -- the stream versions applied: one range, unless some were lost
    repeats      bigint NOT NULL,                   -- applied again
    out_of_order bigint NOT NULL                    -- applied after a later one
);

CREATE TABLE sku_sales (
    sku      text PRIMARY KEY,
    sold     bigint NOT NULL,
    revenue  bigint NOT NULL,
    returned bigint NOT NULL                        -- version 2 only
);

CREATE TABLE applied (
    position bigint PRIMARY KEY,
    times    bigint NOT NULL
);

-- Folds: the state before the event in, the state after it out.
CREATE FUNCTION cart_v1(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
    IF state.cart_id IS NULL THEN
        state := ROW(event.stream_id, 0, 0, 0, 0, false, '{}'::int8multirange, 0, 0)::cart;
    END IF;

    CASE event.event_type
        WHEN 'item_added' THEN
            state.items := state.items + (event.data->>'qty')::bigint;
            state.total := state.total + (event.data->>'qty')::bigint * (event.data->>'price')::bigint;
        WHEN 'item_removed' THEN
            state.items := state.items - (event.data->>'qty')::bigint;
            state.total := state.total - (event.data->>'qty')::bigint * (event.data->>'price')::bigint;
        WHEN 'checked_out' THEN
            state.checked_out := true;
        ELSE
            NULL;
    END CASE;

    IF state.versions @> event.stream_version THEN
        state.repeats := state.repeats + 1;
    ELSIF event.stream_version < upper(state.versions) THEN
        state.out_of_order := state.out_of_order + 1;
    END IF;
    state.versions := state.versions + int8multirange(int8range(event.stream_version, event.stream_version + 1));
    RETURN state;
END
$$;

-- Version 2 also counts what was taken out again, and takes vouchers off the total.
CREATE FUNCTION cart_v2(state cart, event refold.event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
    state := cart_v1(state, event);
    CASE event.event_type
        WHEN 'item_removed' THEN
            state.removed := state.removed + (event.data->>'qty')::bigint;
        WHEN 'voucher_given' THEN
            state.vouchers := state.vouchers + (event.data->>'amount')::bigint;
            state.total := state.total - (event.data->>'amount')::bigint;
        ELSE
            NULL;
    END CASE;
    RETURN state;
END
$$;

-- Per event: the function writes its tables itself. Many carts meet in one row of sku_sales; sums commute.
CREATE FUNCTION sku_sales_v1(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    qty bigint := (event.data->>'qty')::bigint * CASE event.event_type WHEN 'item_added' THEN 1 ELSE -1 END;
BEGIN
    INSERT INTO sku_sales AS s (sku, sold, revenue, returned)
    VALUES (event.data->>'sku', qty, qty * (event.data->>'price')::bigint, 0)
    ON CONFLICT (sku) DO UPDATE SET sold = s.sold + excluded.sold, revenue = s.revenue + excluded.revenue;

    INSERT INTO applied AS a VALUES (event.position, 1)
    ON CONFLICT (position) DO UPDATE SET times = a.times + 1;
END
$$;

-- Version 2 keeps sales and returns apart.
CREATE FUNCTION sku_sales_v2(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    qty   bigint := (event.data->>'qty')::bigint;
    price bigint := (event.data->>'price')::bigint;
BEGIN
    IF event.event_type = 'item_added' THEN
        INSERT INTO sku_sales AS s (sku, sold, revenue, returned)
        VALUES (event.data->>'sku', qty, qty * price, 0)
        ON CONFLICT (sku) DO UPDATE SET sold = s.sold + excluded.sold, revenue = s.revenue + excluded.revenue;
    ELSE
        INSERT INTO sku_sales AS s (sku, sold, revenue, returned)
        VALUES (event.data->>'sku', 0, -qty * price, qty)
        ON CONFLICT (sku) DO UPDATE SET returned = s.returned + excluded.returned,
                                        revenue = s.revenue + excluded.revenue;
    END IF;

    INSERT INTO applied AS a VALUES (event.position, 1)
    ON CONFLICT (position) DO UPDATE SET times = a.times + 1;
END
$$;
