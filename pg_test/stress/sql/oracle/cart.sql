by_hand AS (
    SELECT stream_id AS key, concat_ws('|',
        coalesce(sum(q) FILTER (WHERE event_type = 'item_added'), 0)
            - coalesce(sum(q) FILTER (WHERE event_type = 'item_removed'), 0),
        coalesce(sum(q * p) FILTER (WHERE event_type = 'item_added'), 0)
            - coalesce(sum(q * p) FILTER (WHERE event_type = 'item_removed'), 0)
            - CASE WHEN (SELECT version FROM v) = 1 THEN 0 ELSE coalesce(sum(a), 0) END,
        CASE WHEN (SELECT version FROM v) = 1 THEN 0
            ELSE coalesce(sum(q) FILTER (WHERE event_type = 'item_removed'), 0) END,
        CASE WHEN (SELECT version FROM v) = 1 THEN 0 ELSE coalesce(sum(a), 0) END,
        bool_or(event_type = 'checked_out'),
        range_agg(int8range(stream_version, stream_version + 1)), 0, 0) AS content
    FROM (SELECT stream_id, stream_version, event_type, (data->>'qty')::bigint AS q, (data->>'price')::bigint AS p,
                 (data->>'amount')::bigint AS a FROM event_log) e
    GROUP BY stream_id
),
kept AS (
    SELECT cart_id AS key,
        concat_ws('|', items, total, removed, vouchers, checked_out, versions, repeats, out_of_order) AS content
    FROM cart
)
