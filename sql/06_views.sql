-- What a rebuild is doing, and the projections as a user sees them.

CREATE VIEW refold.rebuild_progress AS
SELECT p.name AS projection,
       i.pid,
       CASE i.param19 WHEN 1 THEN 'verify' ELSE 'rebuild' END AS command,
       CASE i.param1 WHEN 1 THEN 'preparing' WHEN 2 THEN 'replaying' WHEN 3 THEN 'indexing' WHEN 4 THEN 'catching up'
         WHEN 5 THEN 'waiting for appends' WHEN 6 THEN 'merging'
         WHEN 8 THEN 'comparing' END AS phase,
       i.param8 AS events_done,
       i.param7 AS events_total,
       round(r.rate) AS events_per_second,
       CASE WHEN r.rate > 0
            THEN make_interval(secs => (greatest(i.param7 - i.param8, 0) / r.rate)::double precision)
       END AS estimated_left,
       pg_blocking_pids(i.pid) AS waits_for,
       i.param9 AS gate_attempts,
       s.started_at
  FROM pg_stat_get_progress_info('COPY')
         AS i (pid, datid, relid, param1, param2, param3, param4, param5, param6, param7, param8, param9, param10,
               param11, param12, param13, param14, param15, param16, param17, param18, param19)
  JOIN pg_database AS d ON d.oid = i.datid AND d.datname = current_database()
  LEFT JOIN refold.projection AS p ON p.projection_id = i.param2
 CROSS JOIN LATERAL (SELECT timestamptz '2000-01-01 00:00:00+00' + make_interval(secs => i.param3 / 1e6)) AS s (started_at)
 CROSS JOIN LATERAL (
   SELECT i.param8 / nullif(extract(epoch FROM clock_timestamp() - s.started_at), 0)
 ) AS r (rate)
 WHERE i.relid = 'refold.gate'::regclass AND i.param19 <> 2
UNION ALL
SELECT p.name,
       j.worker,
       CASE WHEN j.in_place THEN 'rebuild in place' ELSE 'concurrent rebuild' END,
       j.phase,
       r.events,
       j.total,
       round(r.rate),
       CASE WHEN r.rate > 0
            THEN make_interval(secs => (greatest(j.total - j.checkpoint - t.events, 0) / r.rate)::double precision)
       END,
       CASE WHEN j.waits_for = '{}' THEN pg_blocking_pids(j.worker) ELSE j.waits_for END,
       j.gate_attempts,
       j.started_at
  FROM refold.rebuild_job AS j
  JOIN refold.projection AS p ON p.projection_id = j.projection_id
 CROSS JOIN LATERAL (
   SELECT coalesce(sum(t.events), 0)::bigint AS events FROM refold.rebuild_part AS t WHERE t.job_id = j.job_id
 ) AS t
 CROSS JOIN LATERAL (
   SELECT j.events + t.events, (j.events + t.events - j.run_started_events)
     / nullif(extract(epoch FROM CASE WHEN t.events > 0 THEN clock_timestamp() ELSE j.heartbeat END - j.run_started_at), 0)
 ) AS r (events, rate)
 WHERE j.state = 'running';
COMMENT ON VIEW refold.rebuild_progress IS
  'One row for each rebuild, creation or verification that runs now, by a session or as a job; a projection being created has no name yet. The rows of others'' sessions need pg_monitor.';
COMMENT ON COLUMN refold.rebuild_progress.projection IS 'the projection''s name; NULL while it is being created';
COMMENT ON COLUMN refold.rebuild_progress.pid IS 'the process that rebuilds; NULL while a job''s worker starts';
COMMENT ON COLUMN refold.rebuild_progress.command IS 'rebuild (or creation), verify, concurrent rebuild or rebuild in place';
COMMENT ON COLUMN refold.rebuild_progress.phase IS 'what it does now';
COMMENT ON COLUMN refold.rebuild_progress.events_done IS 'events replayed so far';
COMMENT ON COLUMN refold.rebuild_progress.events_total IS 'events to replay, at most: positions of the log';
COMMENT ON COLUMN refold.rebuild_progress.events_per_second IS 'rate since the start';
COMMENT ON COLUMN refold.rebuild_progress.estimated_left IS 'time left at that rate, at most';
COMMENT ON COLUMN refold.rebuild_progress.gate_attempts IS 'how often it has asked for the gate';
COMMENT ON COLUMN refold.rebuild_progress.started_at IS 'when it began';
COMMENT ON COLUMN refold.rebuild_progress.waits_for IS 'process ids of the sessions that the rebuild waits for';

CREATE VIEW refold.projections AS
SELECT p.name,
       p.kind,
       CASE WHEN b.pid IS NOT NULL OR j.state = 'running' AND j.phase <> 'grace' THEN 'rebuilding'
            WHEN p.mode = 'skipping' THEN 'incomplete'
            WHEN h.signature IS NULL OR p.tables_lost OR o.owner IS DISTINCT FROM p.owner
              OR p.key IS NOT NULL AND refold._fingerprint(p.key) IS NULL THEN 'broken'
            WHEN h.fingerprint <> p.fingerprint OR p.mode = 'mirroring' AND j.job_id IS NULL THEN 'stale'
            ELSE 'active' END AS state,
       p.generation,
       coalesce(h.signature, p.handler_signature) AS handler,
       o.tables,
       p.event_types,
       coalesce(p.key::regprocedure::text, p.key_signature) AS key,
       p.serial,
       o.owner::regrole AS owner,
       CASE p.mode WHEN 'skipping' THEN l.last_value - CASE WHEN l.is_called THEN 0 ELSE 1 END - coalesce(j.checkpoint, 0)
         ELSE 0 END AS lag,
       p.created_at,
       p.rebuilt_at,
       p.rebuilt_events,
       p.rebuilt_in,
       coalesce(b.pid, j.worker) AS rebuilding_pid
  FROM refold._projection AS p
 CROSS JOIN refold.event_position_seq AS l
  LEFT JOIN refold.rebuild_job AS j ON j.projection_id = p.projection_id AND j.state IN ('running', 'paused')
  LEFT JOIN LATERAL (
    SELECT array_agg(t.relation ORDER BY t.ordinal) AS tables,
           min(c.relowner::bigint) FILTER (WHERE t.ordinal = 1)::oid AS owner
      FROM refold.projection_table AS t LEFT JOIN pg_class AS c ON c.oid = t.relation::oid
     WHERE t.projection_id = p.projection_id
  ) AS o ON true
  LEFT JOIN LATERAL (
    SELECT f.oid::regprocedure::text AS signature, concat(refold._fingerprint(f.oid), refold._fingerprint(p.key)) AS fingerprint
      FROM pg_proc AS f WHERE f.oid = p.handler AND f.prokind = 'f'
  ) AS h ON true
  LEFT JOIN LATERAL (
    SELECT r.pid FROM refold.rebuild_progress AS r WHERE r.projection = p.name AND r.command = 'rebuild' LIMIT 1
  ) AS b ON true;
COMMENT ON VIEW refold.projections IS
  'The projections. state: active, rebuilding, incomplete (a rebuild in place has not ended: the tables hold a prefix of the log), stale (the handler or key was replaced since the model was built, or the model was dumped while a concurrent rebuild was at its end) or broken (the handler or a table is gone, or the tables have another owner).';
COMMENT ON COLUMN refold.projections.name IS 'the projection''s name';
COMMENT ON COLUMN refold.projections.kind IS 'fold, per event or per batch';
COMMENT ON COLUMN refold.projections.state IS 'active, rebuilding, incomplete, stale or broken';
COMMENT ON COLUMN refold.projections.generation IS 'counts the cut-overs';
COMMENT ON COLUMN refold.projections.handler IS 'the function that makes events into rows';
COMMENT ON COLUMN refold.projections.tables IS 'the tables of the read model';
COMMENT ON COLUMN refold.projections.event_types IS 'the event types it takes; NULL: all';
COMMENT ON COLUMN refold.projections.key IS 'the function that tells an event''s row; NULL: its stream_id';
COMMENT ON COLUMN refold.projections.serial IS 'whether its appends take turns';
COMMENT ON COLUMN refold.projections.owner IS 'who owns the tables, and whom the handler runs as';
COMMENT ON COLUMN refold.projections.created_at IS 'when it was created';
COMMENT ON COLUMN refold.projections.rebuilt_at IS 'when its model was last built';
COMMENT ON COLUMN refold.projections.rebuilt_in IS 'how long the last rebuild took';
COMMENT ON COLUMN refold.projections.rebuilding_pid IS 'the process that rebuilds it now';
COMMENT ON COLUMN refold.projections.lag IS
  'positions of the log that the model does not show yet; 0 while appends apply the projection themselves';
COMMENT ON COLUMN refold.projections.rebuilt_events IS 'events that the last rebuild replayed';
