SET LOCAL search_path TO pg_catalog, pg_temp;
LOCK TABLE refold.gate IN SHARE ROW EXCLUSIVE MODE;

-- A restored store adopts functions by name, and only those of roles that can do what the projection's owner can anyway.
CREATE FUNCTION refold._function(signature text, owner oid) RETURNS oid LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $$
  SELECT p.oid FROM pg_proc AS p
   WHERE p.prokind = 'f' AND p.proargtypes::oid[] && ARRAY['refold.event'::regtype::oid, 'refold.event[]'::regtype::oid]
     AND p.oid::regprocedure::text = $1 AND pg_has_role(p.proowner, $2, 'USAGE')
$$;
COMMENT ON FUNCTION refold._function(text, oid) IS
  'the function of an event that has this signature and belongs to this role or to one with its rights; NULL: there is none';
GRANT EXECUTE ON FUNCTION refold._function(text, oid) TO PUBLIC;
CREATE OR REPLACE VIEW refold._projection AS
SELECT p.projection_id, p.name, p.kind,
       CASE i.here WHEN 'own' THEN p.handler WHEN 'new' THEN coalesce(refold._function(p.handler_signature, w.owner), 0) ELSE 0 END AS handler,
       p.handler_signature, p.fingerprint,
       CASE WHEN p.key_signature IS NOT NULL THEN
         CASE i.here WHEN 'own' THEN p.key WHEN 'new' THEN coalesce(refold._function(p.key_signature, w.owner), 0) ELSE 0 END END AS key,
       p.key_signature, p.event_types, p.serial,
       w.owner,
       p.search_path, p.time_zone, p.date_style, p.interval_style, p.generation, p.flips, p.mode,
       p.created_at, p.rebuilt_at, p.rebuilt_events, p.rebuilt_in,
       (SELECT pg_catalog.count(*) FROM refold.projection_table AS t
          JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) t.relation::pg_catalog.oid
         WHERE t.projection_id OPERATOR(pg_catalog.=) p.projection_id) OPERATOR(pg_catalog.<>) p.table_count AS tables_lost
  FROM refold.projection AS p
 CROSS JOIN (SELECT n.installation_id, n.opened_on OPERATOR(pg_catalog.=) refold._cluster() AS open FROM refold.installation AS n LIMIT 1) AS o
 -- new: restored, or brought here by pg_upgrade, and not adopted yet. smuggled: into a store that was open.
 CROSS JOIN LATERAL (
   SELECT CASE WHEN o.open IS NOT TRUE THEN 'new' WHEN p.installation OPERATOR(pg_catalog.=) o.installation_id THEN 'own'
               ELSE 'smuggled' END AS here
 ) AS i
 CROSS JOIN LATERAL (
   SELECT CASE i.here WHEN 'own' THEN p.owner
            WHEN 'new' THEN coalesce((SELECT r.oid FROM pg_catalog.pg_roles AS r
                                       WHERE r.rolname OPERATOR(pg_catalog.=) p.owner_name::pg_catalog.name), 0)
            ELSE 0 END AS owner
 ) AS w;
DROP FUNCTION refold._function(text);

-- Events that logical replication brings are appended.
CREATE FUNCTION refold._admit_replicated() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'refold_admit_replicated';
COMMENT ON FUNCTION refold._admit_replicated() IS 'gives an event that logical replication brings its place in this log';

CREATE FUNCTION refold._apply_replicated() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'refold_apply_replicated';
COMMENT ON FUNCTION refold._apply_replicated() IS 'applies the projections to an event that logical replication brings';

CREATE FUNCTION refold._refuse_replicated() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'refold_refuse_replicated';
COMMENT ON FUNCTION refold._refuse_replicated() IS 'keeps what is true of another database only out of the registry';
REVOKE EXECUTE ON FUNCTION refold._admit_replicated(), refold._apply_replicated(), refold._refuse_replicated() FROM PUBLIC;
-- Whoever applies what another server has logged runs no statements: only row triggers fire, and only these are for it.
CREATE TRIGGER admit_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.event
  FOR EACH ROW EXECUTE FUNCTION refold._admit_replicated();
CREATE TRIGGER apply_replicated AFTER INSERT ON refold.event
  FOR EACH ROW EXECUTE FUNCTION refold._apply_replicated();
ALTER TABLE refold.event ENABLE REPLICA TRIGGER admit_replicated;
ALTER TABLE refold.event ENABLE REPLICA TRIGGER apply_replicated;
CREATE TRIGGER refuse_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.installation
  FOR EACH ROW EXECUTE FUNCTION refold._refuse_replicated();
ALTER TABLE refold.installation ENABLE REPLICA TRIGGER refuse_replicated;
CREATE TRIGGER refuse_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.projection
  FOR EACH ROW EXECUTE FUNCTION refold._refuse_replicated();
CREATE TRIGGER refuse_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.projection_table
  FOR EACH ROW EXECUTE FUNCTION refold._refuse_replicated();
CREATE TRIGGER refuse_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.serial_turn
  FOR EACH ROW EXECUTE FUNCTION refold._refuse_replicated();
ALTER TABLE refold.projection ENABLE REPLICA TRIGGER refuse_replicated;
ALTER TABLE refold.projection_table ENABLE REPLICA TRIGGER refuse_replicated;
ALTER TABLE refold.serial_turn ENABLE REPLICA TRIGGER refuse_replicated;
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

-- A fold in parts, each of other streams: of a handler that is parallel safe. The handler is what takes the time.
CREATE FUNCTION refold._fold_part_step(internal, anyelement, refold.event, oid, text) RETURNS internal
  LANGUAGE c VOLATILE PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'refold_fold_part_step';
COMMENT ON FUNCTION refold._fold_part_step(internal, anyelement, refold.event, oid, text) IS
  'calls the fold that is being replayed, in a parallel worker too';

CREATE FUNCTION refold._fold_part_result(internal, anyelement, refold.event, oid, text) RETURNS anyelement
  LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'refold_fold_result';
COMMENT ON FUNCTION refold._fold_part_result(internal, anyelement, refold.event, oid, text) IS
  'the row that a replayed fold has come to';

CREATE AGGREGATE refold._fold_part(anyelement, refold.event, oid, text) (
  SFUNC = refold._fold_part_step, STYPE = internal, FINALFUNC = refold._fold_part_result, FINALFUNC_EXTRA, PARALLEL = SAFE
);
COMMENT ON AGGREGATE refold._fold_part(anyelement, refold.event, oid, text) IS
  'a part of the fold that is being replayed, by this handler of the projection with this name';

CREATE FUNCTION refold._count_part(bigint) RETURNS boolean
  LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'refold_count_part';
COMMENT ON FUNCTION refold._count_part(bigint) IS 'counts so many more events as replayed; true';

ALTER FUNCTION refold._fail_key(text) PARALLEL RESTRICTED;
GRANT EXECUTE ON FUNCTION refold._fold_part_step(internal, anyelement, refold.event, oid, text),
  refold._fold_part_result(internal, anyelement, refold.event, oid, text),
  refold._fold_part(anyelement, refold.event, oid, text), refold._count_part(bigint) TO PUBLIC;
