item AS (
    SELECT e.*, max(position) FILTER (WHERE event_type = 'checked_out') OVER (PARTITION BY stream_id) AS ended
    FROM event_log e WHERE event_type IN ('item_added', 'checked_out')
),
line AS (
    SELECT stream_id, stream_version, data->>'sku' AS sku,
        (data->>'qty')::bigint * (data->>'price')::bigint AS amount
    FROM item
    WHERE event_type = 'item_added' AND ((SELECT version FROM v) = 1 OR ended IS NULL OR position > ended)
),
by_hand AS (
    SELECT stream_id || '/' AS key, concat_ws('|', count(*), sum(amount)) AS content FROM line GROUP BY stream_id
    UNION ALL
    SELECT stream_id || '/' || stream_version, concat_ws('|', sku, amount) FROM line
),
kept AS (
    SELECT stream_id || '/' AS key, concat_ws('|', lines, total) AS content FROM bill
    UNION ALL
    SELECT stream_id || '/' || stream_version, concat_ws('|', sku, amount) FROM bill_line
)
