item AS (
    SELECT e.*, (data->>'qty')::bigint AS q, data->>'sku' AS sku,
        max(position) FILTER (WHERE event_type = 'item_removed' AND data->>'qty' = '5')
            OVER (PARTITION BY data->>'sku') AS cleared
    FROM event_log e WHERE data ? 'sku'
),
step AS (
    SELECT sku, stream_id, stream_version, position,
        CASE WHEN (SELECT version FROM v) = 1 THEN q ELSE q * (data->>'price')::bigint END AS amount,
        row_number() OVER (PARTITION BY sku ORDER BY position) - 1 AS before
    FROM item WHERE cleared IS NULL OR position > cleared
),
by_hand AS (
    SELECT sku AS key, concat_ws('|', count(*), sum(before * amount), sum(amount), max(position),
        right(string_agg(' ' || stream_id || '@' || stream_version, '' ORDER BY position), 120)) AS content
    FROM step GROUP BY sku
),
kept AS (
    SELECT sku AS key, concat_ws('|', n, weighted, total, last_position, trail) AS content FROM shelf
)
