CREATE EXTENSION refold;
SET client_min_messages = warning;

-- Handlers run as whoever owns the tables now, not as who owned them when the projection was created.
CREATE ROLE regress_owner_dev;
GRANT USAGE ON SCHEMA refold TO regress_owner_dev;
GRANT SELECT ON refold.event TO regress_owner_dev;
CREATE TABLE seen (stream_id text PRIMARY KEY, by_role text NOT NULL);
CREATE FUNCTION on_seen(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO seen VALUES (event.stream_id, current_user) ON CONFLICT (stream_id) DO UPDATE SET by_role = excluded.by_role;
END $$;
SELECT generation FROM refold.create_projection('seen', 'on_seen(refold.event)', '{seen}');
SELECT refold.append_event('s-1', 'looked', '{}');
ALTER TABLE seen OWNER TO regress_owner_dev;
SELECT refold.append_event('s-2', 'looked', '{}');
SELECT * FROM seen ORDER BY stream_id;
SELECT owner, state FROM refold.projections;
SELECT rows_updated FROM refold.rebuild_projection('seen');
SELECT * FROM seen ORDER BY stream_id;

-- A table that is gone: the projection is broken, appends that it takes say so, and it can be dropped.
DROP TABLE seen;
SELECT name, state, tables IS NOT NULL AS has_tables, owner FROM refold.projections;
SELECT refold.append_event('s-3', 'looked', '{}');
SELECT refold.rebuild_projection('seen');
SELECT refold.drop_projection('seen');
SELECT refold.append_event('s-3', 'looked', '{}');

-- A handler that is gone, likewise.
CREATE TABLE n (stream_id text PRIMARY KEY, n int NOT NULL);
CREATE FUNCTION fold_n(state n, event refold.event) RETURNS n LANGUAGE sql AS
  $$ SELECT ROW(event.stream_id, coalesce(state.n, 0) + 1)::n $$;
SELECT generation FROM refold.create_projection('n', 'fold_n(n, refold.event)');
ALTER FUNCTION fold_n(n, refold.event) RENAME TO fold_renamed;
SELECT state, handler FROM refold.projections;
SELECT refold.append_event('s-3', 'looked', '{}');
DROP FUNCTION fold_renamed(n, refold.event);
SELECT state, handler FROM refold.projections;
SELECT refold.append_event('s-3', 'looked', '{}');
CREATE FUNCTION fold_n(state n, event refold.event) RETURNS n LANGUAGE sql AS
  $$ SELECT ROW(event.stream_id, coalesce(state.n, 0) + 1)::n $$;
SELECT rows_inserted, rows_updated FROM refold.rebuild_projection('n', 'fold_n(n, refold.event)');
SELECT refold.append_event('s-3', 'looked', '{}');
SELECT * FROM n ORDER BY stream_id;
SELECT * FROM refold.verify_projection('n');

-- Whoever has taken the name of a rebuild's schema keeps it, and does not stop the rebuild.
SELECT format('CREATE SCHEMA refold_copy_%s', pg_backend_pid()) AS squat \gset
:squat;
SELECT rows_updated FROM refold.rebuild_projection('n');
SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'refold\_copy\_%';

DROP OWNED BY regress_owner_dev;
DROP ROLE regress_owner_dev;
