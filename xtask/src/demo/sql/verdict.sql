-- The verdict, from the log alone: nothing here asks refold (or the published protocol) anything.
-- $1 and $2: the handler versions that cart and sku_sales were last rebuilt with; $3: the number of the last pass.
WITH line AS (
    SELECT position, stream_id, event_type, data->>'sku' AS sku,
           (data->>'qty')::bigint AS qty, (data->>'qty')::bigint * (data->>'price')::bigint AS price,
           (data->>'amount')::bigint AS amount
    FROM event_log
),
cart_by_hand AS (
    SELECT stream_id AS cart_id,
           coalesce(sum(qty) FILTER (WHERE event_type = 'item_added'), 0)
               - coalesce(sum(qty) FILTER (WHERE event_type = 'item_removed'), 0) AS items,
           coalesce(sum(price) FILTER (WHERE event_type = 'item_added'), 0)
               - coalesce(sum(price) FILTER (WHERE event_type = 'item_removed'), 0)
               - CASE $1::int WHEN 1 THEN 0 ELSE coalesce(sum(amount), 0) END AS total,
           CASE $1::int WHEN 1 THEN 0
               ELSE coalesce(sum(qty) FILTER (WHERE event_type = 'item_removed'), 0) END AS removed,
           CASE $1::int WHEN 1 THEN 0 ELSE coalesce(sum(amount), 0) END AS vouchers,
           bool_or(event_type = 'checked_out') AS checked_out
    FROM line
    GROUP BY stream_id
),
cart_as_kept AS (
    SELECT cart_id, items::numeric, total::numeric, removed::numeric, vouchers::numeric, checked_out FROM cart
),
sku_sales_by_hand AS (
    SELECT sku,
           coalesce(sum(qty) FILTER (WHERE event_type = 'item_added'), 0)
               - CASE $2::int WHEN 1 THEN coalesce(sum(qty) FILTER (WHERE event_type = 'item_removed'), 0)
                   ELSE 0 END AS sold,
           coalesce(sum(price) FILTER (WHERE event_type = 'item_added'), 0)
               - coalesce(sum(price) FILTER (WHERE event_type = 'item_removed'), 0) AS revenue,
           CASE $2::int WHEN 1 THEN 0
               ELSE coalesce(sum(qty) FILTER (WHERE event_type = 'item_removed'), 0) END AS returned
    FROM line
    WHERE event_type IN ('item_added', 'item_removed')
    GROUP BY sku
),
sku_sales_as_kept AS (
    SELECT sku, sold::numeric, revenue::numeric, returned::numeric FROM sku_sales
)
SELECT (SELECT count(*) FROM event_log) AS events,
       (SELECT count(*) FROM acknowledged) AS acknowledged,
       (SELECT count(*) FROM (SELECT position FROM acknowledged EXCEPT SELECT position FROM event_log) m)
           AS acknowledged_missing,
       (SELECT count(*) FROM (SELECT position FROM event_log EXCEPT SELECT position FROM acknowledged) m)
           AS never_acknowledged,
       (SELECT count(DISTINCT position) FROM finding WHERE kind = 'lost') AS lost,
       (SELECT count(DISTINCT position) FROM finding WHERE kind = 'lost' AND pass = $3::int) AS lost_at_end,
       (SELECT count(DISTINCT pass) FROM finding WHERE kind = 'lost') AS lossy_passes,
       (SELECT coalesce(sum(times), 0)::bigint FROM finding WHERE kind = 'doubled') AS doubled,
       (SELECT coalesce(sum(times), 0)::bigint FROM finding WHERE kind = 'invented') AS invented,
       (SELECT coalesce(sum(times), 0)::bigint FROM finding WHERE kind = 'out of order') AS out_of_order,
       (SELECT count(DISTINCT cart_id) FROM (
            (TABLE cart_by_hand EXCEPT TABLE cart_as_kept) UNION ALL
            (TABLE cart_as_kept EXCEPT TABLE cart_by_hand)) d) AS wrong_carts,
       (SELECT count(DISTINCT sku) FROM (
            (TABLE sku_sales_by_hand EXCEPT TABLE sku_sales_as_kept) UNION ALL
            (TABLE sku_sales_as_kept EXCEPT TABLE sku_sales_by_hand)) d) AS wrong_skus
