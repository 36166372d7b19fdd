-- The registry of projections.

CREATE FUNCTION refold._fingerprint(function oid) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT pg_catalog.md5(ROW(p.prolang, p.prosrc, p.probin, p.prosqlbody::pg_catalog.text, p.proconfig, p.prosecdef,
                            p.proisstrict, p.provolatile)::pg_catalog.text)
    FROM pg_catalog.pg_proc AS p WHERE p.oid OPERATOR(pg_catalog.=) $1
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
  search_path text NOT NULL,
  time_zone text NOT NULL,
  date_style text NOT NULL,
  interval_style text NOT NULL,
  generation bigint NOT NULL DEFAULT 1,
  flips bigint NOT NULL DEFAULT 1,
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
COMMENT ON COLUMN refold.projection.owner IS 'who owned the tables when the model was last built: the handler runs as no one else';

CREATE TABLE refold.projection_table (
  relation regclass PRIMARY KEY,
  projection_id integer NOT NULL REFERENCES refold.projection ON DELETE CASCADE,
  ordinal integer NOT NULL,
  UNIQUE (projection_id, ordinal)
);
COMMENT ON TABLE refold.projection_table IS 'The tables that each projection owns; a table belongs to one projection.';

CREATE TABLE refold.serial_turn (
  projection_id integer PRIMARY KEY REFERENCES refold.projection ON DELETE CASCADE,
  turn bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
COMMENT ON TABLE refold.serial_turn IS 'One row for each serial projection; whoever appends to it updates the row before its positions are drawn.';

CREATE FUNCTION refold._invalidate_registry() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'refold_invalidate_registry';
COMMENT ON FUNCTION refold._invalidate_registry() IS 'tells every backend that the registry has changed';

CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON refold.projection
  FOR EACH STATEMENT EXECUTE FUNCTION refold._invalidate_registry();
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON refold.projection_table
  FOR EACH STATEMENT EXECUTE FUNCTION refold._invalidate_registry();
ALTER TABLE refold.projection ENABLE ALWAYS TRIGGER invalidate;
ALTER TABLE refold.projection_table ENABLE ALWAYS TRIGGER invalidate;
