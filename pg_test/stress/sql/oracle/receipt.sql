by_hand AS (
    SELECT stream_id AS key, concat_ws('|',
        coalesce(sum((data->>'qty')::bigint), 0) * (SELECT version FROM v), bool_or(event_type = 'checked_out')) AS content
    FROM event_log WHERE event_type IN ('item_added', 'checked_out') GROUP BY stream_id
),
kept AS (
    SELECT stream_id AS key, concat_ws('|', goods, paid) AS content FROM receipt
)
