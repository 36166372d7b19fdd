SET client_min_messages = warning;
CREATE EXTENSION refold;
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/jobs.sql'
\i :include

-- The roles of docs/privileges.md, by the statements that stand there.
CREATE ROLE shop_stranger;
\set page `cat "$PG_ABS_SRCDIR/sql/../../docs/privileges.md"`
SELECT set_config('roles.page', :'page', false) <> '' AS read;
DO $$
BEGIN
  EXECUTE (SELECT string_agg(block[1], '' ORDER BY n)
             FROM regexp_matches(current_setting('roles.page'), '```sql\n(-- (?:application|developer|dba)\n[^`]*)```', 'g')
               WITH ORDINALITY AS m (block, n));
END $$;
CREATE ROLE shop_watcher IN ROLE pg_monitor;
SELECT rolname FROM pg_roles WHERE rolname LIKE 'shop%' ORDER BY rolname;

-- All that each may do, and nothing else.
CREATE VIEW may AS
  SELECT r.rolname, 'EXECUTE' AS what, p.proname AS which
    FROM pg_roles AS r, pg_proc AS p
   WHERE p.pronamespace = 'refold'::regnamespace AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
  UNION ALL
  SELECT r.rolname, string_agg(k, ', ' ORDER BY k), c.relname
    FROM pg_roles AS r, pg_class AS c,
         unnest(CASE WHEN c.relkind = 'S' THEN '{USAGE,SELECT,UPDATE}'::text[]
                     ELSE '{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}' END) AS k
   WHERE c.relnamespace = 'refold'::regnamespace AND c.relkind IN ('r', 'v', 'S')
     AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(r.oid, c.oid, k) ELSE has_table_privilege(r.oid, c.oid, k) END
   GROUP BY r.rolname, c.relname
  UNION ALL
  SELECT r.rolname, k, 'schema' FROM pg_roles AS r, unnest('{USAGE,CREATE}'::text[]) AS k
   WHERE has_schema_privilege(r.oid, 'refold', k);
SELECT rolname, what, string_agg(which, ', ' ORDER BY which) AS which FROM may
 WHERE rolname LIKE 'shop%' AND NOT (what = 'EXECUTE' AND starts_with(which, '_'))
 GROUP BY rolname, what ORDER BY rolname, what;
-- What views and replays call with their user's rights; of no use without USAGE on the schema.
SELECT which, string_agg(rolname, ', ' ORDER BY rolname) AS who FROM may
 WHERE rolname LIKE 'shop%' AND what = 'EXECUTE' AND starts_with(which, '_') GROUP BY which ORDER BY which;
-- No door runs with other rights than its caller's but by its own check.
SELECT p.oid::regprocedure FROM pg_proc AS p WHERE p.pronamespace = 'refold'::regnamespace AND p.prosecdef;

DROP VIEW may;

-- The developer makes a read model with these grants alone.
CREATE SCHEMA shop AUTHORIZATION shop_dev;
SET ROLE shop_dev;
SET search_path = shop;
CREATE TABLE orders (order_id text PRIMARY KEY, n int NOT NULL, tenant text);
CREATE FUNCTION fold_orders(state orders, event refold.event) RETURNS orders LANGUAGE sql AS
  $$ SELECT ROW(event.stream_id, coalesce(state.n, 0) + 1, event.metadata ->> 'tenant')::orders $$;
SELECT generation FROM refold.create_projection('orders', 'fold_orders(orders, refold.event)');
GRANT USAGE ON SCHEMA shop TO shop_app;
GRANT SELECT ON orders TO shop_app;
SELECT refold.append_event('o-1', 'placed', '{}');
RESET search_path;

-- The application appends and reads, and nothing else.
SET ROLE shop_app;
SELECT stream_version FROM refold.append_event('o-1', 'placed', '{}', '{"tenant": "north"}');
SELECT stream_version FROM refold.append_events('o-2', '[{"type": "placed", "data": {}, "metadata": {"tenant": "south"}}]');
SELECT * FROM shop.orders ORDER BY order_id;
UPDATE shop.orders SET n = 7;
SELECT count(*) FROM refold.read_all();
SELECT refold.rebuild_projection('orders');
SELECT refold.cancel_rebuild('orders');
SELECT * FROM refold.projections;

-- The dba rebuilds what is not his, and verifies it once he may see its rows.
SET ROLE shop_dba;
SELECT generation FROM refold.rebuild_projection('orders');
CALL refold.rebuild_projection_concurrently('orders');
SELECT name, state, owner FROM refold.projections;
SELECT * FROM refold.verify_projection('orders');
SELECT refold.drop_projection('orders');
SELECT refold.append_event('o-1', 'placed', '{}');
SELECT * FROM refold.event;
RESET ROLE;
GRANT USAGE ON SCHEMA shop TO shop_dba;
GRANT SELECT ON shop.orders TO shop_dba;
SET ROLE shop_dba;
SELECT * FROM refold.verify_projection('orders');

-- A stranger.
SET ROLE shop_stranger;
SELECT refold.append_event('o-1', 'placed', '{}');
SELECT refold._final_position();
TABLE refold.event;
TABLE refold.projections;
RESET ROLE;

-- Row-level security on a read model: for its readers, not for its handler.
SET ROLE shop_dev;
ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON shop.orders FOR SELECT TO shop_app USING (tenant = current_setting('shop.tenant', true));
SET ROLE shop_app;
SET shop.tenant = 'north';
SELECT stream_version FROM refold.append_event('o-2', 'placed', '{}', '{"tenant": "south"}');
SELECT * FROM shop.orders ORDER BY order_id;
SET ROLE shop_dev;
SELECT * FROM shop.orders ORDER BY order_id;
SELECT * FROM refold.verify_projection('orders');
SELECT rows_updated FROM refold.rebuild_projection('orders');
CALL refold.rebuild_projection_concurrently('orders');
SET ROLE shop_app;
SELECT * FROM shop.orders ORDER BY order_id;
SET ROLE shop_dba;
SELECT * FROM refold.verify_projection('orders');
-- Forced after the creation, it would hide rows from the handler: refused, not guessed.
SET ROLE shop_dev;
ALTER TABLE shop.orders FORCE ROW LEVEL SECURITY;
SET ROLE shop_app;
\set VERBOSITY sqlstate
SELECT stream_version FROM refold.append_event('o-2', 'placed', '{}', '{"tenant": "south"}');
\set VERBOSITY default
SELECT stream_version FROM refold.append_event('o-2', 'placed', '{}', '{"tenant": "south"}');
SET ROLE shop_dba;
SELECT refold.rebuild_projection('orders');
CALL refold.rebuild_projection_concurrently('orders');
SET ROLE shop_dev;
ALTER TABLE shop.orders NO FORCE ROW LEVEL SECURITY;
RESET ROLE;

-- Row-level security on the log: for its readers; a replay sees all events or refuses.
ALTER TABLE refold.event ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON refold.event FOR SELECT TO shop_app USING (metadata ->> 'tenant' = current_setting('shop.tenant', true));
CREATE POLICY one_stream ON refold.event FOR SELECT TO shop_dev USING (stream_id = 'o-1');
SET ROLE shop_app;
SELECT stream_version FROM refold.append_event('o-2', 'placed', '{}', '{"tenant": "south"}', 2);
SELECT position, stream_id FROM refold.read_all();
SELECT count(*) FROM refold.read_stream('o-2');
RESET ROLE;
SELECT * FROM shop.orders ORDER BY order_id;
SET ROLE shop_dev;
SELECT refold.rebuild_projection('orders');
SELECT refold.rebuild_projection('orders', key => '{"order_id": "o-2"}');
SELECT * FROM refold.verify_projection('orders');
CALL refold.rebuild_projection_concurrently('orders');
CALL refold.rebuild_projection_concurrently('orders', in_place => true);
RESET ROLE;
ALTER ROLE shop_dev BYPASSRLS;
SET ROLE shop_dev;
SELECT rows_updated FROM refold.rebuild_projection('orders');
CALL refold.rebuild_projection_concurrently('orders', in_place => true, verify => true);
RESET ROLE;
SELECT * FROM shop.orders ORDER BY order_id;
SET ROLE shop_dev;
SELECT * FROM refold.verify_projection('orders');
RESET ROLE;

CALL wait_until('SELECT NOT EXISTS (TABLE leftovers)');
DROP EXTENSION refold CASCADE;
DROP OWNED BY shop_app, shop_dev, shop_dba, shop_stranger, shop_watcher CASCADE;
DROP ROLE shop_app, shop_dev, shop_dba, shop_stranger, shop_watcher;
