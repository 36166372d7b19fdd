-- One look of the reader, in one snapshot: the events the log has, and those each model has.
SELECT (SELECT count(*) FROM event_log) =
           (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM cart, unnest(versions) r)
       AND (SELECT count(*) FROM event_log WHERE event_type IN ('item_added', 'item_removed')) =
           (SELECT coalesce(sum(times), 0) FROM applied) AS whole
