by_hand AS (
    SELECT stream_id AS key, concat_ws('|', count(*) * (SELECT version FROM v),
        (array_agg(event_type ORDER BY position DESC))[1]) AS content
    FROM event_log GROUP BY stream_id
),
kept AS (
    SELECT stream_id AS key, concat_ws('|', n, last_type) AS content FROM tally
)
