-- Each row is a fault: where a model of the subscriber is not what its log says, by one statement and without refold's help.
-- A model that is rebuilt in place is a prefix until it is done.
SELECT 'cart ' || coalesce(e.k, c.cart_id)
  FROM (SELECT stream_id AS k, string_agg(data->>'n', ',' ORDER BY position) AS h FROM refold.event GROUP BY 1) AS e
  FULL JOIN cart AS c ON c.cart_id = e.k WHERE translate(c.history, ';', ',') IS DISTINCT FROM e.h
UNION ALL
SELECT 'sku ' || coalesce(e.k, c.sku)
  FROM (SELECT data->>'sku' AS k, string_agg(data->>'n', ',' ORDER BY position) AS h FROM refold.event GROUP BY 1) AS e
  FULL JOIN sku AS c ON c.sku = e.k WHERE translate(c.history, ';', ',') IS DISTINCT FROM e.h
UNION ALL
SELECT 'journal ' || coalesce(e.line, j.line)
  FROM (SELECT row_number() OVER (ORDER BY position) AS line, format('%s@%s', stream_id, stream_version) AS entry FROM refold.event) AS e
  FULL JOIN journal AS j ON j.line = e.line WHERE translate(j.entry, ';', '@') IS DISTINCT FROM e.entry
UNION ALL
SELECT 'tally ' || coalesce(e.k, t.sku)
  FROM (SELECT data->>'sku' AS k, count(*) AS n FROM refold.event GROUP BY 1) AS e
  FULL JOIN tally AS t ON t.sku = e.k WHERE t.n / t.factor IS DISTINCT FROM e.n
   AND NOT EXISTS (SELECT FROM refold.projection WHERE name = 'tally' AND mode = 'skipping')
UNION ALL
SELECT format('stream %s', stream_id) FROM refold.event GROUP BY stream_id
HAVING max(stream_version) <> count(*) OR array_agg(stream_version ORDER BY position) <> array_agg(stream_version ORDER BY stream_version)
