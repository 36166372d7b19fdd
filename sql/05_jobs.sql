-- Rebuilds by a background worker: concurrent, and in place.

CREATE TABLE refold.rebuild_job (
  job_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  projection_id integer NOT NULL REFERENCES refold.projection ON DELETE CASCADE,
  in_place boolean NOT NULL,
  verify boolean NOT NULL,
  grace interval NOT NULL,
  handler oid NOT NULL,
  fingerprint text NOT NULL,
  owner oid NOT NULL,
  started_by name NOT NULL,
  state text NOT NULL DEFAULT 'running'
    CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['running', 'paused', 'done', 'cancelled'])),
  phase text NOT NULL DEFAULT 'preparing'
    CHECK (phase OPERATOR(pg_catalog.=) ANY (ARRAY['preparing', 'emptying', 'building', 'waiting for snapshots', 'verifying',
      'swapping', 'grace', 'cleaning up'])),
  epoch bigint NOT NULL DEFAULT 0,
  checkpoint bigint NOT NULL DEFAULT 0,
  total bigint NOT NULL DEFAULT 0,
  events bigint NOT NULL DEFAULT 0,
  gate_attempts integer NOT NULL DEFAULT 0,
  mirror_handler oid,
  definition text,
  grace_until timestamptz,
  old_fingerprint text,
  rounds integer NOT NULL DEFAULT 0,
  worker integer,
  waits_for integer[] NOT NULL DEFAULT '{}',
  started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  heartbeat timestamptz,
  run_started_at timestamptz,
  run_started_events bigint NOT NULL DEFAULT 0,
  ended_at timestamptz,
  error_sqlstate text,
  error_message text,
  error_detail text,
  error_position bigint,
  error_stream_id text
);
COMMENT ON TABLE refold.rebuild_job IS
  'One row for each rebuild by a background worker; one that is not done or cancelled can be resumed. Read the view refold.rebuild_jobs.';
COMMENT ON COLUMN refold.rebuild_job.epoch IS 'counts the takers: a worker that was presumed dead writes nothing any more';
COMMENT ON COLUMN refold.rebuild_job.checkpoint IS 'events up to this position are in the model that is being built';
COMMENT ON COLUMN refold.rebuild_job.owner IS 'who owned the tables when the job was started: the handler runs as no one else';
COMMENT ON COLUMN refold.rebuild_job.mirror_handler IS 'what appends apply to the shadow: the new handler, and in the grace period the old one';
COMMENT ON COLUMN refold.rebuild_job.definition IS 'of the live tables when the shadow was made: they must not have changed when the two change places';
CREATE UNIQUE INDEX rebuild_job_open_key ON refold.rebuild_job (projection_id)
  WHERE state OPERATOR(pg_catalog.=) ANY (ARRAY['running', 'paused']);

CREATE TABLE refold.shadow_table (
  job_id bigint NOT NULL REFERENCES refold.rebuild_job ON DELETE CASCADE,
  ordinal integer NOT NULL,
  live oid NOT NULL,
  shadow oid NOT NULL,
  PRIMARY KEY (job_id, ordinal)
);
COMMENT ON TABLE refold.shadow_table IS 'Which hidden table each open job fills for which live one.';

CREATE TABLE refold.rebuild_part (
  job_id bigint NOT NULL REFERENCES refold.rebuild_job ON DELETE CASCADE,
  part integer NOT NULL,
  parts integer NOT NULL,
  up_to bigint NOT NULL,
  checkpoint bigint NOT NULL,
  events bigint NOT NULL DEFAULT 0,
  epoch bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (job_id, part)
);
COMMENT ON TABLE refold.rebuild_part IS
  'How far each worker of a fold''s replay is that several share, each with the keys of one part.';

CREATE TABLE refold.mirror_failure (
  failure_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id bigint NOT NULL REFERENCES refold.rebuild_job ON DELETE CASCADE,
  "position" bigint,
  stream_id text,
  event_type text,
  sqlstate text NOT NULL,
  message text NOT NULL,
  detail text,
  failed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX mirror_failure_job_id_idx ON refold.mirror_failure (job_id);
COMMENT ON TABLE refold.mirror_failure IS
  'Appends whose events the shadow''s handler could not take: they went through, and the shadow must not be swapped in.';

CREATE TABLE refold.skipped_event (
  projection_id integer NOT NULL,
  "position" bigint NOT NULL,
  reason text NOT NULL,
  skipped_by name NOT NULL DEFAULT SESSION_USER,
  skipped_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  PRIMARY KEY (projection_id, "position")
);
COMMENT ON TABLE refold.skipped_event IS 'Events that a projection leaves out for good, in every rebuild and verification.';
CREATE TRIGGER admit BEFORE INSERT ON refold.skipped_event
  FOR EACH STATEMENT EXECUTE FUNCTION refold._admit_restore();
ALTER TABLE refold.skipped_event ENABLE ALWAYS TRIGGER admit;

CREATE TRIGGER refuse_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.rebuild_job
  FOR EACH ROW EXECUTE FUNCTION refold._refuse_replicated();
CREATE TRIGGER refuse_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.shadow_table
  FOR EACH ROW EXECUTE FUNCTION refold._refuse_replicated();
CREATE TRIGGER refuse_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.rebuild_part
  FOR EACH ROW EXECUTE FUNCTION refold._refuse_replicated();
CREATE TRIGGER refuse_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.mirror_failure
  FOR EACH ROW EXECUTE FUNCTION refold._refuse_replicated();
CREATE TRIGGER refuse_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.skipped_event
  FOR EACH ROW EXECUTE FUNCTION refold._refuse_replicated();
ALTER TABLE refold.rebuild_job ENABLE REPLICA TRIGGER refuse_replicated;
ALTER TABLE refold.shadow_table ENABLE REPLICA TRIGGER refuse_replicated;
ALTER TABLE refold.rebuild_part ENABLE REPLICA TRIGGER refuse_replicated;
ALTER TABLE refold.mirror_failure ENABLE REPLICA TRIGGER refuse_replicated;
ALTER TABLE refold.skipped_event ENABLE REPLICA TRIGGER refuse_replicated;

CREATE FUNCTION refold.start_rebuild(
  name text, handler regprocedure DEFAULT NULL, in_place boolean DEFAULT false, verify boolean DEFAULT false,
  grace interval DEFAULT '0'
) RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_start_rebuild';
COMMENT ON FUNCTION refold.start_rebuild(text, regprocedure, boolean, boolean, interval) IS
  'Starts a rebuild by a background worker when the transaction commits; returns the job''s id. in_place: into the live tables, which are incomplete meanwhile. grace: how long the old model is kept up for rollback_projection.';

CREATE PROCEDURE refold.rebuild_projection_concurrently(
  name text, handler regprocedure DEFAULT NULL, in_place boolean DEFAULT false, verify boolean DEFAULT false,
  grace interval DEFAULT '0', on_cancel text DEFAULT 'keep'
) LANGUAGE c AS 'MODULE_PATHNAME', 'refold_rebuild_projection_concurrently';
COMMENT ON PROCEDURE refold.rebuild_projection_concurrently(text, regprocedure, boolean, boolean, interval, text) IS
  'Rebuilds a projection by a background worker and waits for the new model; appends wait for moments only. on_cancel: whether a job whose caller is cancelled goes on (keep) or is cancelled too (cancel).';

CREATE FUNCTION refold.pause_rebuild(name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_pause_rebuild';
COMMENT ON FUNCTION refold.pause_rebuild(text) IS 'Stops a projection''s rebuild job where it is; resume_rebuild goes on from there.';

CREATE FUNCTION refold.resume_rebuild(name text)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_resume_rebuild';
COMMENT ON FUNCTION refold.resume_rebuild(text) IS
  'Lets a worker go on with a projection''s rebuild job: one that was paused, has met an error, or has lost its worker. Returns the job''s id.';

CREATE FUNCTION refold.cancel_rebuild(name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_cancel_rebuild';
COMMENT ON FUNCTION refold.cancel_rebuild(text) IS
  'Ends a projection''s rebuild job and removes what it has built. A model that was being rebuilt in place stays incomplete until it is rebuilt.';

CREATE FUNCTION refold.finish_rebuild(name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_finish_rebuild';
COMMENT ON FUNCTION refold.finish_rebuild(text) IS 'Ends the grace period: the old model is removed.';

CREATE FUNCTION refold.rollback_projection(name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_rollback_projection';
COMMENT ON FUNCTION refold.rollback_projection(text) IS
  'In the grace period, makes the old model and its handler the live ones again, at once; the new model is removed.';

CREATE FUNCTION refold.skip_event(name text, "position" bigint, reason text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_skip_event';
COMMENT ON FUNCTION refold.skip_event(text, bigint, text) IS
  'Leaves an event out of a projection for good: the paused job, and every later rebuild and verification, passes it over.';

CREATE VIEW refold.rebuild_jobs AS
SELECT j.job_id,
       p.name AS projection,
       CASE WHEN j.in_place THEN 'in place' ELSE 'concurrent' END AS kind,
       j.state,
       j.phase,
       j.checkpoint,
       j.events OPERATOR(pg_catalog.+) (SELECT coalesce(pg_catalog.sum(t.events), 0)::pg_catalog.int8 FROM refold.rebuild_part AS t
         WHERE t.job_id OPERATOR(pg_catalog.=) j.job_id) AS events,
       j.started_by,
       j.started_at,
       j.ended_at,
       j.grace_until,
       j.error_sqlstate,
       CASE WHEN pg_catalog.pg_has_role(j.owner, 'USAGE') THEN j.error_message END AS error_message,
       CASE WHEN pg_catalog.pg_has_role(j.owner, 'USAGE') THEN j.error_detail END AS error_detail,
       j.error_position,
       CASE WHEN pg_catalog.pg_has_role(j.owner, 'USAGE') THEN j.error_stream_id END AS error_stream_id,
       (SELECT pg_catalog.count(*) FROM refold.mirror_failure AS f WHERE f.job_id OPERATOR(pg_catalog.=) j.job_id) AS mirror_failures
  FROM refold.rebuild_job AS j
  JOIN refold.projection AS p ON p.projection_id OPERATOR(pg_catalog.=) j.projection_id;
COMMENT ON VIEW refold.rebuild_jobs IS 'Rebuilds by background workers, ended ones too; the error is why a job is paused, or has begun anew. Its text is shown to the projection''s owner.';
COMMENT ON COLUMN refold.rebuild_jobs.job_id IS 'the job''s number';
COMMENT ON COLUMN refold.rebuild_jobs.projection IS 'the projection''s name';
COMMENT ON COLUMN refold.rebuild_jobs.kind IS 'concurrent or in place';
COMMENT ON COLUMN refold.rebuild_jobs.state IS 'running, paused, done or cancelled';
COMMENT ON COLUMN refold.rebuild_jobs.phase IS 'where it is, or was when it ended';
COMMENT ON COLUMN refold.rebuild_jobs.checkpoint IS 'events up to this position are in the model that is being built';
COMMENT ON COLUMN refold.rebuild_jobs.events IS 'events replayed so far';
COMMENT ON COLUMN refold.rebuild_jobs.started_by IS 'the session user who started it';
COMMENT ON COLUMN refold.rebuild_jobs.started_at IS 'when it was started';
COMMENT ON COLUMN refold.rebuild_jobs.ended_at IS 'when it was done or cancelled';
COMMENT ON COLUMN refold.rebuild_jobs.grace_until IS 'until when the old model is kept up';
COMMENT ON COLUMN refold.rebuild_jobs.error_sqlstate IS 'the code of the error that has paused it';
COMMENT ON COLUMN refold.rebuild_jobs.error_message IS 'the message of that error';
COMMENT ON COLUMN refold.rebuild_jobs.error_detail IS 'its detail';
COMMENT ON COLUMN refold.rebuild_jobs.error_position IS 'the position of the event that failed';
COMMENT ON COLUMN refold.rebuild_jobs.error_stream_id IS 'its stream';
COMMENT ON COLUMN refold.rebuild_jobs.mirror_failures IS 'appends that the shadow''s handler could not take';
