-- What each script of this folder begins with: its options, and last_position, up to which the source's events are
-- final. A position that was drawn by a transaction that is still open could be filled later, behind what was copied.
--
-- Before: schema, events_table, sequence. After: source_table, last_position.

\set AUTOCOMMIT on
\set QUIET on
\set SHOW_CONTEXT never

\if :{?only} \else \set only '' \endif
\if :{?except} \else \set except '' \endif
\if :{?tenant} \else \set tenant '' \endif
\if :{?by_tenant} \else \set by_tenant off \endif
\if :{?archived} \else \set archived refuse \endif
\if :{?late} \else \set late refuse \endif
\if :{?metadata_key} \else \set metadata_key copied_from \endif
\if :{?batch} \else \set batch 1000 \endif
\if :{?patience} \else \set patience 60 \endif
\if :{?settle} \else \set settle 0 \endif

SET search_path = pg_catalog, pg_temp;
SET TimeZone = 'UTC';
SET client_min_messages = warning;
SET statement_timeout = 0;
SET default_transaction_isolation = 'read committed';
-- What a policy would hide is an error, not left out.
SET row_security = off;
-- Whatever the statistics say: a search of the whole log for each event would take days.
SET enable_nestloop = off;

CREATE FUNCTION pg_temp.refuse(code text, message text, detail text, hint text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF detail IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, HINT = hint;
  END IF;
  RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint;
END $$;

-- What the functions here need to know, which psql does not put into a function's body.
CREATE FUNCTION pg_temp.option(name text) RETURNS text LANGUAGE sql AS $$
  SELECT current_setting('refold_migrate.' || name)
$$;
SELECT set_config('refold_migrate.' || name, value, false) AS option
  FROM (VALUES ('store', :'store'), ('schema', :'schema'), ('table', :'events_table'), ('sequence', :'sequence'),
               ('tenant', :'tenant'), ('by_tenant', :'by_tenant'), ('archived', :'archived'), ('late', :'late'),
               ('metadata_key', :'metadata_key'), ('patience', :'patience')) AS o (name, value)
\g /dev/null

DO $$
BEGIN
  IF to_regclass('refold.event') IS NULL THEN
    PERFORM pg_temp.refuse('55000', 'refold is not in this database', NULL,
      'Use CREATE EXTENSION refold in the database that has the other store''s tables.');
  END IF;
  PERFORM pg_temp.refuse('42P01', format('there is no %I.%I', pg_temp.option('schema'), name), NULL,
      'Connect to the old store''s database, and give its schema: --set=schema=NAME.')
    FROM (VALUES (pg_temp.option('table')), (pg_temp.option('sequence'))) AS r (name)
   WHERE to_regclass(format('%I.%I', pg_temp.option('schema'), name)) IS NULL;
  PERFORM pg_temp.refuse('22023', format('%s is not a value of the option %s', pg_temp.option(name), name), NULL,
      format('Give one of %s.', array_to_string(allowed, ', ')))
    FROM (VALUES ('archived', '{refuse,copy,skip}'::text[]), ('late', '{refuse,append}'), ('by_tenant', '{on,off}'))
           AS o (name, allowed)
   WHERE pg_temp.option(name) <> ALL (allowed);
  -- Whoever was here before may still be leaving.
  PERFORM set_config('lock_timeout', (1000 * pg_temp.option('patience')::numeric)::int::text, true);
  BEGIN
    PERFORM pg_advisory_lock(8390876214023812455);
  EXCEPTION WHEN lock_not_available THEN
    PERFORM pg_temp.refuse('55006', 'another migration is at work in this database', NULL, 'Wait for its end.');
  END;
END $$;

-- refold's data is JSON.
CREATE FUNCTION pg_temp.require_json(column_name text) RETURNS void LANGUAGE sql AS $$
  SELECT pg_temp.refuse('0A000',
           format('%s of %s is of type %s, not jsonb', column_name, a.attrelid::regclass, format_type(a.atttypid, a.atttypmod)),
           'refold''s events are JSON.', 'Convert the column in the old store first: ALTER TABLE ... ALTER COLUMN ... TYPE jsonb USING ....')
    FROM pg_attribute AS a
   WHERE a.attrelid = format('%I.%I', pg_temp.option('schema'), pg_temp.option('table'))::regclass
     AND a.attname = column_name AND a.atttypid NOT IN ('json'::regtype, 'jsonb'::regtype)
$$;

-- Whoever writes to the source: an insert locks the table before it draws its position, and nextval keeps a lock on the
-- sequence to its transaction's end.
CREATE TEMP VIEW writer AS
SELECT l.virtualtransaction, l.pid
  FROM pg_locks AS l
 WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
   AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
   AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
   AND l.relation IN (to_regclass(format('%I.%I', pg_temp.option('schema'), pg_temp.option('table'))),
                      to_regclass(format('%I.%I', pg_temp.option('schema'), pg_temp.option('sequence'))));

-- Waits for those who write now, and not for who comes after them; requests no lock, so nobody waits for us.
CREATE FUNCTION pg_temp.wait_for_writers() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  writing text[] := ARRAY(SELECT DISTINCT w.virtualtransaction FROM writer AS w);
  deadline timestamptz := clock_timestamp() + make_interval(secs => pg_temp.option('patience')::float8);
  pids text;
BEGIN
  LOOP
    SELECT string_agg(DISTINCT coalesce(w.pid::text, 'a prepared transaction'), ', ') INTO pids
      FROM writer AS w WHERE w.virtualtransaction = ANY (writing);
    EXIT WHEN pids IS NULL;
    IF clock_timestamp() > deadline THEN
      PERFORM pg_temp.refuse('55P03', 'the old store is being written to by a transaction that does not end',
        format('Processes: %s.', pids), 'End it, or wait for longer: --set=patience=SECONDS.');
    END IF;
    PERFORM pg_sleep(0.02);
  END LOOP;
END $$;

SELECT format('%I.%I', :'schema', :'events_table') AS source_table, format('%I.%I', :'schema', :'sequence') AS source_sequence \gset
-- The position first: whoever has drawn one up to it and is still open is among the writers then.
SELECT last_value AS last_position FROM :source_sequence \gset
SELECT pg_sleep(:settle) \g /dev/null
SELECT pg_temp.wait_for_writers() \g /dev/null
