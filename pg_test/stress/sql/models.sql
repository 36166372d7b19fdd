-- Run as stress_owner, after the demo's handlers.sql (cart, a fold by stream in PL/pgSQL; sku_sales and applied, per
-- event, commutative): the models whose results depend on the order of the events.

-- A fold by the key of a function: many streams meet in one row. `weighted` changes with every exchange of two unlike
-- events, `trail` tells the last ones. An item_removed of 5 deletes the row.
CREATE TABLE shelf (
    sku           text PRIMARY KEY,
    n             bigint NOT NULL,
    weighted      bigint NOT NULL,
    total         bigint NOT NULL,
    last_position bigint NOT NULL,
    trail         text NOT NULL
);

CREATE FUNCTION shelf_key(event refold.event) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT event.data->>'sku' $$;

CREATE FUNCTION shelf_step(state shelf, event refold.event, amount bigint) RETURNS shelf LANGUAGE plpgsql AS $$
BEGIN
    IF event.event_type = 'item_removed' AND event.data->>'qty' = '5' THEN
        RETURN NULL;
    END IF;
    IF state.sku IS NULL THEN
        state.sku := event.data->>'sku';
        state.n := 0;
        state.weighted := 0;
        state.total := 0;
        state.trail := '';
    END IF;
    state.weighted := state.weighted + state.n * amount;
    state.total := state.total + amount;
    state.n := state.n + 1;
    state.last_position := event.position;
    state.trail := right(state.trail || ' ' || event.stream_id || '@' || event.stream_version, 120);
    RETURN state;
END
$$;

CREATE FUNCTION shelf_v1(state shelf, event refold.event) RETURNS shelf LANGUAGE plpgsql AS $$
BEGIN
    RETURN shelf_step(state, event, (event.data->>'qty')::bigint);
END
$$;

CREATE FUNCTION shelf_v2(state shelf, event refold.event) RETURNS shelf LANGUAGE plpgsql AS $$
BEGIN
    RETURN shelf_step(state, event, (event.data->>'qty')::bigint * (event.data->>'price')::bigint);
END
$$;

-- Serial, per event: each line tells of the line before it. Nothing in the table would make a wrong order fail.
CREATE TABLE journal (
    position  bigint PRIMARY KEY,
    stream_id text NOT NULL,
    line      bigint NOT NULL,
    previous  text
);

CREATE FUNCTION journal_v1(event refold.event) RETURNS void LANGUAGE sql AS $$
    INSERT INTO journal (position, stream_id, line, previous)
    SELECT event.position, event.stream_id, coalesce(max(j.line), 0) + 1, NULL
    FROM (SELECT line FROM journal ORDER BY position DESC LIMIT 1) j
$$;

CREATE FUNCTION journal_v2(event refold.event) RETURNS void LANGUAGE sql AS $$
    INSERT INTO journal (position, stream_id, line, previous)
    SELECT event.position, event.stream_id, coalesce(max(j.line), 0) + 2, max(j.stream_id)
    FROM (SELECT line, stream_id FROM journal ORDER BY position DESC LIMIT 1) j
$$;

-- Per batch, over two tables with a foreign key. Version 2 forgets a bill at its checkout.
CREATE TABLE bill (
    stream_id text PRIMARY KEY,
    lines     bigint NOT NULL,
    total     bigint NOT NULL
);

CREATE TABLE bill_line (
    stream_id      text NOT NULL REFERENCES bill,
    stream_version bigint NOT NULL,
    sku            text NOT NULL,
    amount         bigint NOT NULL,
    PRIMARY KEY (stream_id, stream_version)
);

CREATE FUNCTION bill_add(events refold.event[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO bill AS b (stream_id, lines, total)
    SELECT e.stream_id, count(*), sum((e.data->>'qty')::bigint * (e.data->>'price')::bigint)
    FROM unnest(events) e WHERE e.event_type = 'item_added' GROUP BY e.stream_id
    ON CONFLICT (stream_id) DO UPDATE SET lines = b.lines + excluded.lines, total = b.total + excluded.total;

    INSERT INTO bill_line (stream_id, stream_version, sku, amount)
    SELECT e.stream_id, e.stream_version, e.data->>'sku', (e.data->>'qty')::bigint * (e.data->>'price')::bigint
    FROM unnest(events) e WHERE e.event_type = 'item_added'
$$;

CREATE FUNCTION bill_v1(events refold.event[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM bill_add(events);
END
$$;

CREATE FUNCTION bill_v2(events refold.event[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ended text[] := ARRAY(SELECT DISTINCT e.stream_id FROM unnest(events) e WHERE e.event_type = 'checked_out');
BEGIN
    DELETE FROM bill_line WHERE stream_id = ANY (ended);
    DELETE FROM bill WHERE stream_id = ANY (ended);
    PERFORM bill_add(ARRAY(
        SELECT e FROM unnest(events) e
        WHERE NOT EXISTS (SELECT FROM unnest(events) o WHERE o.stream_id = e.stream_id
                          AND o.event_type = 'checked_out' AND o.stream_version >= e.stream_version)
        ORDER BY (e).position));
END
$$;

-- Per batch, over one table that nothing refers to: its storage can be swapped.
CREATE TABLE receipt (
    stream_id text PRIMARY KEY,
    goods     bigint NOT NULL,
    paid      boolean NOT NULL
);

CREATE FUNCTION receipt_add(events refold.event[], weight bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO receipt AS r (stream_id, goods, paid)
    SELECT e.stream_id, coalesce(sum((e.data->>'qty')::bigint), 0) * weight, bool_or(e.event_type = 'checked_out')
    FROM unnest(events) e GROUP BY e.stream_id
    ON CONFLICT (stream_id) DO UPDATE SET goods = r.goods + excluded.goods, paid = r.paid OR excluded.paid
$$;

CREATE FUNCTION receipt_v1(events refold.event[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM receipt_add(events, 1);
END
$$;

CREATE FUNCTION receipt_v2(events refold.event[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM receipt_add(events, 2);
END
$$;

-- Created and dropped all the time.
CREATE TABLE tally (
    stream_id text PRIMARY KEY,
    n         bigint NOT NULL,
    last_type text NOT NULL
);

CREATE FUNCTION tally_v1(state tally, event refold.event) RETURNS tally LANGUAGE sql AS $$
    SELECT ROW(event.stream_id, coalesce(state.n, 0) + 1, event.event_type)::tally
$$;

CREATE FUNCTION tally_v2(state tally, event refold.event) RETURNS tally LANGUAGE sql AS $$
    SELECT ROW(event.stream_id, coalesce(state.n, 0) + 2, event.event_type)::tally
$$;

SELECT refold.create_projection('cart', 'cart_v1(cart,refold.event)');
SELECT refold.create_projection('sku_sales', 'sku_sales_v1(refold.event)', tables => '{sku_sales,applied}',
                                event_types => '{item_added,item_removed}');
SELECT refold.create_projection('shelf', 'shelf_v1(shelf,refold.event)', key => 'shelf_key(refold.event)');
SELECT refold.create_projection('journal', 'journal_v1(refold.event)', tables => '{journal}',
                                event_types => '{checked_out}', serial => true);
SELECT refold.create_projection('bill', 'bill_v1(refold.event[])', tables => '{bill,bill_line}',
                                event_types => '{item_added,checked_out}');
SELECT refold.create_projection('receipt', 'receipt_v1(refold.event[])', tables => '{receipt}',
                                event_types => '{item_added,checked_out}');

GRANT SELECT ON cart, sku_sales, applied, shelf, journal, bill, bill_line, receipt, tally TO stress_app;
