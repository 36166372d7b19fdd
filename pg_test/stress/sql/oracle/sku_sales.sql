item AS (
    SELECT position, event_type, data->>'sku' AS sku, (data->>'qty')::bigint AS q, (data->>'price')::bigint AS p
    FROM event_log WHERE event_type IN ('item_added', 'item_removed')
),
by_hand AS (
    SELECT sku AS key, concat_ws('|',
        coalesce(sum(q) FILTER (WHERE event_type = 'item_added'), 0)
            - CASE WHEN (SELECT version FROM v) = 1
                THEN coalesce(sum(q) FILTER (WHERE event_type = 'item_removed'), 0) ELSE 0 END,
        coalesce(sum(q * p) FILTER (WHERE event_type = 'item_added'), 0)
            - coalesce(sum(q * p) FILTER (WHERE event_type = 'item_removed'), 0),
        CASE WHEN (SELECT version FROM v) = 1 THEN 0
            ELSE coalesce(sum(q) FILTER (WHERE event_type = 'item_removed'), 0) END) AS content
    FROM item GROUP BY sku
    UNION ALL
    SELECT 'position/' || position, '1' FROM item
),
kept AS (
    SELECT sku AS key, concat_ws('|', sold, revenue, returned) AS content FROM sku_sales
    UNION ALL
    SELECT 'position/' || position, times::text FROM applied
)
