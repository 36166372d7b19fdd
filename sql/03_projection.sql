-- The registry of projections.

-- No OIDs: the hash must be the same after a restore.
CREATE FUNCTION refold._fingerprint(function oid) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $$
  SELECT md5(ROW(l.lanname, p.prosrc, p.probin, CASE WHEN p.prosqlbody IS NOT NULL THEN pg_get_function_sqlbody(p.oid) END,
                 p.proconfig, p.prosecdef, p.proisstrict, p.provolatile)::text)
    FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang WHERE p.oid = $1
$$;
COMMENT ON FUNCTION refold._fingerprint(oid) IS 'changes when a function''s definition does, whatever its owner and the search_path';

CREATE TABLE refold.projection (
  projection_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  kind text NOT NULL CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY['fold', 'per event', 'per batch'])),
  handler oid NOT NULL,
  handler_signature text NOT NULL,
  fingerprint text NOT NULL,
  key oid,
  key_signature text,
  event_types text[],
  serial boolean NOT NULL,
  owner oid NOT NULL,
  owner_name text NOT NULL,
  table_count integer NOT NULL,
  search_path text NOT NULL,
  time_zone text NOT NULL,
  date_style text NOT NULL,
  interval_style text NOT NULL,
  generation bigint NOT NULL DEFAULT 1,
  flips bigint NOT NULL DEFAULT 1,
  installation uuid NOT NULL,
  mode text NOT NULL DEFAULT 'active' CHECK (mode OPERATOR(pg_catalog.=) ANY (ARRAY['active', 'mirroring', 'skipping'])),
  created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
  rebuilt_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  rebuilt_events bigint NOT NULL,
  rebuilt_in interval NOT NULL
);
COMMENT ON TABLE refold.projection IS
  'One row for each projection; changes only under ShareRowExclusiveLock on refold.gate. Read the view refold.projections.';
COMMENT ON COLUMN refold.projection.generation IS 'counts the cut-overs';
COMMENT ON COLUMN refold.projection.flips IS 'counts the changes of state: a snapshot that sees another number is older';
COMMENT ON COLUMN refold.projection.mode IS 'what appends do: apply it; apply it and its shadow; or skip it, the live tables being incomplete';
COMMENT ON COLUMN refold.projection.fingerprint IS 'of the handler and the key as they were when the model was last built';
COMMENT ON COLUMN refold.projection.handler_signature IS 'by which a restored projection finds its handler';
COMMENT ON COLUMN refold.projection.table_count IS 'how many tables it has: one that was dropped is missing after a restore';
COMMENT ON COLUMN refold.projection.installation IS 'where it was active: another installation''s OIDs mean nothing here';
COMMENT ON COLUMN refold.projection.owner IS 'who owned the tables when the model was last built: the handler runs as no one else';

-- The dumped tables have no foreign keys among each other: pg_restore --jobs would not heed them.
CREATE TABLE refold.projection_table (
  relation regclass PRIMARY KEY,
  projection_id integer NOT NULL,
  ordinal integer NOT NULL,
  UNIQUE (projection_id, ordinal)
);
COMMENT ON TABLE refold.projection_table IS 'The tables that each projection owns; a table belongs to one projection.';

CREATE TABLE refold.serial_turn (
  projection_id integer PRIMARY KEY,
  turn bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
COMMENT ON TABLE refold.serial_turn IS 'One row for each serial projection; whoever appends to it updates the row before its positions are drawn.';

-- Whoever may create functions in the schema could give one this signature before the store is opened, and the owner of the
-- projection would run it. A role with that owner's rights gains nothing by that: it may replace what the owner has.
CREATE FUNCTION refold._function(signature text, owner oid) RETURNS oid LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $$
  SELECT p.oid FROM pg_proc AS p
   WHERE p.prokind = 'f' AND p.proargtypes::oid[] && ARRAY['refold.event'::regtype::oid, 'refold.event[]'::regtype::oid]
     AND p.oid::regprocedure::text = $1 AND pg_has_role(p.proowner, $2, 'USAGE')
$$;
COMMENT ON FUNCTION refold._function(text, oid) IS
  'the function of an event that has this signature and belongs to this role or to one with its rights; NULL: there is none';

-- 0 stands for what there is not: no function and no role has that OID. The LIMIT tells the planner that there is one row:
-- what it would expect otherwise is worth a compilation of the query.
CREATE VIEW refold._projection AS
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
COMMENT ON VIEW refold._projection IS
  'The registry with the OIDs that mean something here: as stored, or in a store that was restored or upgraded and has not been opened, by name.';

CREATE FUNCTION refold._invalidate_registry() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'refold_invalidate_registry';
COMMENT ON FUNCTION refold._invalidate_registry() IS 'tells every backend that the registry has changed';

CREATE FUNCTION refold._admit_restore() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'refold_admit_restore';
COMMENT ON FUNCTION refold._admit_restore() IS 'refuses rows of the registry that are neither refold''s own nor a restore''s';

CREATE TRIGGER admit BEFORE INSERT ON refold.projection
  FOR EACH STATEMENT EXECUTE FUNCTION refold._admit_restore();
CREATE TRIGGER admit BEFORE INSERT ON refold.projection_table
  FOR EACH STATEMENT EXECUTE FUNCTION refold._admit_restore();
CREATE TRIGGER admit BEFORE INSERT ON refold.serial_turn
  FOR EACH STATEMENT EXECUTE FUNCTION refold._admit_restore();
ALTER TABLE refold.projection ENABLE ALWAYS TRIGGER admit;
ALTER TABLE refold.projection_table ENABLE ALWAYS TRIGGER admit;
ALTER TABLE refold.serial_turn ENABLE ALWAYS TRIGGER admit;

CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON refold.projection
  FOR EACH STATEMENT EXECUTE FUNCTION refold._invalidate_registry();
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON refold.projection_table
  FOR EACH STATEMENT EXECUTE FUNCTION refold._invalidate_registry();
ALTER TABLE refold.projection ENABLE ALWAYS TRIGGER invalidate;
ALTER TABLE refold.projection_table ENABLE ALWAYS TRIGGER invalidate;

CREATE TRIGGER refuse_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.projection
  FOR EACH ROW EXECUTE FUNCTION refold._refuse_replicated();
CREATE TRIGGER refuse_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.projection_table
  FOR EACH ROW EXECUTE FUNCTION refold._refuse_replicated();
CREATE TRIGGER refuse_replicated BEFORE INSERT OR UPDATE OR DELETE ON refold.serial_turn
  FOR EACH ROW EXECUTE FUNCTION refold._refuse_replicated();
ALTER TABLE refold.projection ENABLE REPLICA TRIGGER refuse_replicated;
ALTER TABLE refold.projection_table ENABLE REPLICA TRIGGER refuse_replicated;
ALTER TABLE refold.serial_turn ENABLE REPLICA TRIGGER refuse_replicated;
