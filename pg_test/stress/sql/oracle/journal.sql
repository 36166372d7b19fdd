by_hand AS (
    SELECT position::text AS key, concat_ws('|', stream_id,
        row_number() OVER w * (SELECT version FROM v),
        CASE WHEN (SELECT version FROM v) = 2 THEN lag(stream_id) OVER w END) AS content
    FROM event_log WHERE event_type = 'checked_out' WINDOW w AS (ORDER BY position)
),
kept AS (
    SELECT position::text AS key, concat_ws('|', stream_id, line, previous) AS content FROM journal
)
