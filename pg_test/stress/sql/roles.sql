-- Clients are no superusers: what the documentation grants must be enough. Roles belong to the cluster, so another run
-- may have made them.
DO $$
BEGIN
    CREATE ROLE stress_owner LOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
END
$$;
DO $$
BEGIN
    CREATE ROLE stress_app LOGIN IN ROLE pg_monitor;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
END
$$;
