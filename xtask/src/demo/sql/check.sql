-- Compares the model of projection $2 with the log, event by event and in one snapshot; writes down what is wrong.
-- $1: the number of this pass.
WITH sale AS (
    SELECT position FROM event_log WHERE event_type IN ('item_added', 'item_removed')
),
found AS (
    SELECT 'cart' AS projection, 'lost' AS kind, l.position, 1::bigint AS times
    FROM event_log l
    LEFT JOIN cart c ON c.cart_id = l.stream_id
    WHERE $2 = 'cart' AND (c.versions @> l.stream_version) IS NOT TRUE
    UNION ALL
    SELECT 'cart', 'doubled', NULL, repeats FROM cart WHERE $2 = 'cart' AND repeats > 0
    UNION ALL
    SELECT 'cart', 'out of order', NULL, out_of_order FROM cart WHERE $2 = 'cart' AND out_of_order > 0
    UNION ALL
    SELECT 'cart', 'invented', NULL, upper(c.versions) - 1 - log.version
    FROM cart c
    CROSS JOIN LATERAL (
        SELECT coalesce(max(l.stream_version), 0) AS version FROM event_log l WHERE l.stream_id = c.cart_id
    ) log
    WHERE $2 = 'cart' AND upper(c.versions) - 1 > log.version
    UNION ALL
    SELECT 'sku_sales', 'lost', position, 1
    FROM (SELECT position FROM sale EXCEPT SELECT position FROM applied) missing
    WHERE $2 = 'sku_sales'
    UNION ALL
    SELECT 'sku_sales', 'doubled', position, times - 1 FROM applied WHERE $2 = 'sku_sales' AND times > 1
    UNION ALL
    SELECT 'sku_sales', 'invented', position, 1
    FROM (SELECT position FROM applied EXCEPT SELECT position FROM sale) stray
    WHERE $2 = 'sku_sales'
)
INSERT INTO finding (pass, projection, kind, position, times)
SELECT $1, projection, kind, position, times FROM found
