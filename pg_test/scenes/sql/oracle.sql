-- Empty in every snapshot: the model is a fold of the log that refold had no part in, where there is a projection, and
-- the log has no event twice.
CREATE VIEW faults AS
  SELECT 'not in the model' AS fault, f::text AS what FROM (TABLE fold EXCEPT ALL TABLE model) AS f
  UNION ALL
  SELECT 'not in the log', m::text FROM (TABLE model EXCEPT ALL TABLE fold) AS m WHERE EXISTS (TABLE projection)
  UNION ALL
  SELECT 'twice in the log', item FROM log GROUP BY item HAVING count(*) > 1
  UNION ALL
  SELECT 'a stream with a hole', stream_id FROM log GROUP BY stream_id HAVING max(stream_version) <> count(*);
