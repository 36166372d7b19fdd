CREATE EXTENSION refold;

-- What there is.
SELECT p.proname, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result,
    p.provolatile AS v, p.proparallel AS p
  FROM pg_proc AS p WHERE p.pronamespace = 'refold'::regnamespace AND NOT starts_with(p.proname, '_') ORDER BY p.proname;
SELECT c.relkind, c.relname, obj_description(c.oid, 'pg_class') AS comment
  FROM pg_class AS c WHERE c.relnamespace = 'refold'::regnamespace AND c.relkind IN ('r', 'v', 'S', 'c') ORDER BY 1, 2;
SELECT p.proname, obj_description(p.oid, 'pg_proc') AS comment
  FROM pg_proc AS p WHERE p.pronamespace = 'refold'::regnamespace ORDER BY p.proname;

-- Nothing without a comment.
SELECT p.oid::regprocedure FROM pg_proc AS p
  WHERE p.pronamespace = 'refold'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass FROM pg_class AS c
  WHERE c.relnamespace = 'refold'::regnamespace AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL;
SELECT c.oid::regclass FROM pg_class AS c
  WHERE c.relnamespace = 'refold'::regnamespace AND c.relkind = 'c' AND obj_description(c.reltype, 'pg_type') IS NULL;
SELECT a.attname FROM pg_attribute AS a
  WHERE a.attrelid = 'refold.event'::regclass AND a.attnum > 0 AND col_description(a.attrelid, a.attnum) IS NULL;

-- What PUBLIC may.
SELECT p.oid::regprocedure FROM pg_proc AS p
  WHERE p.pronamespace = 'refold'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE') ORDER BY 1;
SELECT c.oid::regclass FROM pg_class AS c WHERE c.relnamespace = 'refold'::regnamespace AND c.relkind IN ('r', 'v', 'S')
  AND (CASE WHEN c.relkind = 'S' THEN has_sequence_privilege('public', c.oid, 'USAGE, SELECT, UPDATE')
       ELSE has_table_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') END);
SELECT has_schema_privilege('public', 'refold', 'USAGE') OR has_schema_privilege('public', 'refold', 'CREATE') AS schema;
-- No door runs with the owner's rights as a whole.
SELECT p.oid::regprocedure FROM pg_proc AS p WHERE p.pronamespace = 'refold'::regnamespace AND p.prosecdef;
SELECT p.oid::regprocedure, p.proconfig FROM pg_proc AS p
  WHERE p.pronamespace = 'refold'::regnamespace AND p.proconfig IS NOT NULL ORDER BY 1;

-- The views.
SELECT a.attrelid::regclass AS view, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
  FROM pg_attribute AS a
  WHERE a.attrelid IN ('refold.projections'::regclass, 'refold.rebuild_progress'::regclass) AND a.attnum > 0
  ORDER BY a.attrelid::regclass::text, a.attnum;

-- The extension: its schema is fixed, and it is no other's.
SELECT extname, extnamespace::regnamespace, extrelocatable FROM pg_extension WHERE extname = 'refold';
ALTER EXTENSION refold SET SCHEMA public;
DROP TABLE refold.event;
DROP EXTENSION refold;
SELECT nspname FROM pg_namespace WHERE nspname = 'refold';
CREATE SCHEMA refold;
\set VERBOSITY terse
CREATE EXTENSION refold;
\set VERBOSITY default
DROP SCHEMA refold;
CREATE EXTENSION refold SCHEMA public;
CREATE EXTENSION refold;

-- No view is planned so dear that PostgreSQL would compile it: that takes longer than all it does.
DO $$
DECLARE
  name text;
  plan jsonb;
BEGIN
  FOR name IN SELECT c.oid::regclass FROM pg_class AS c WHERE c.relnamespace = 'refold'::regnamespace AND c.relkind = 'v' LOOP
    EXECUTE 'EXPLAIN (FORMAT json) SELECT * FROM ' || name INTO plan;
    IF (plan->0->'Plan'->>'Total Cost')::float8 > current_setting('jit_above_cost')::float8 THEN
      RAISE WARNING '% costs %', name, plan->0->'Plan'->>'Total Cost';
    END IF;
  END LOOP;
END $$;
