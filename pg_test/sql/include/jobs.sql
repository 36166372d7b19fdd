-- What the scripts about rebuild jobs share; each script includes it after CREATE EXTENSION.

-- Waits until the newest job of a projection is in this state or phase. Between two looks it holds no snapshot: the worker
-- waits for those that are older than its flip.
CREATE PROCEDURE wait_for_job(name text, wanted text) LANGUAGE plpgsql AS $$
DECLARE
  found refold.rebuild_jobs;
BEGIN
  FOR look IN 1..1000 LOOP
    SELECT * INTO found FROM refold.rebuild_jobs AS j WHERE j.projection = name ORDER BY j.job_id DESC LIMIT 1;
    IF wanted IN (found.state, found.phase) THEN
      RETURN;
    END IF;
    COMMIT;
    PERFORM pg_sleep(0.02);
    COMMIT;
  END LOOP;
  RAISE EXCEPTION 'the job of "%" never was %', name, wanted USING DETAIL = found;
END $$;

-- Waits until a query returns true.
CREATE PROCEDURE wait_until(query text) LANGUAGE plpgsql AS $$
DECLARE
  holds boolean;
BEGIN
  FOR look IN 1..1000 LOOP
    EXECUTE query INTO holds;
    IF holds THEN
      RETURN;
    END IF;
    COMMIT;
    PERFORM pg_sleep(0.02);
    COMMIT;
  END LOOP;
  RAISE EXCEPTION 'never true: %', query;
END $$;

CREATE VIEW jobs AS
  SELECT job_id AS job, projection, kind, state, phase, events, error_sqlstate, error_message, error_position, error_stream_id
    FROM refold.rebuild_jobs ORDER BY job_id;

-- What a job may leave nothing of.
CREATE VIEW leftovers AS
  SELECT 'schema' AS what, nspname::text AS which FROM pg_namespace WHERE nspname LIKE 'refold\_%'
  UNION ALL SELECT 'shadow', shadow::regclass::text FROM refold.shadow_table
  UNION ALL SELECT 'mirror failure', message FROM refold.mirror_failure
  UNION ALL SELECT 'mode', mode FROM refold.projection WHERE mode = 'mirroring'
  UNION ALL SELECT 'worker', state FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'refold rebuild'
  UNION ALL SELECT 'lock', mode FROM pg_locks
    WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  UNION ALL SELECT 'lost reference', d.classid::regclass::text FROM pg_depend AS d
    WHERE d.classid = 'pg_class'::regclass AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = d.objid)
       OR d.refclassid = 'pg_class'::regclass AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = d.refobjid)
  UNION ALL SELECT 'statistics', starelid::text FROM pg_statistic AS s
    WHERE NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = s.starelid)
  UNION ALL SELECT 'toast table', oid::text FROM pg_class AS t
    WHERE t.relkind = 't' AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.reltoastrelid = t.oid);

-- Files of this database that belong to no relation. The last ones go at a checkpoint.
CREATE FUNCTION lost_files() RETURNS bigint LANGUAGE sql AS $$
  SELECT count(*) FROM pg_database AS d, pg_ls_dir('base/' || d.oid) AS f (name)
    WHERE d.datname = current_database() AND f.name ~ '^\d+$' AND pg_filenode_relation(0, f.name::oid) IS NULL
      AND f.name::oid <> ALL (SELECT pg_relation_filenode(c.oid) FROM pg_class AS c
        WHERE c.relkind IN ('r', 'i', 't', 'm', 'S') AND pg_relation_filenode(c.oid) IS NOT NULL)
$$;
