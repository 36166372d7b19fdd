SET client_min_messages = warning;
CREATE EXTENSION refold;

-- A handler's names mean what they meant when its projection was created, whatever the session's search_path is by now; one
-- that means the same is left in force.
CREATE ROLE path_owner;
CREATE ROLE path_other;
CREATE ROLE path_group;
GRANT USAGE ON SCHEMA refold TO path_owner;
GRANT SELECT ON refold.event TO path_owner;
CREATE SCHEMA a AUTHORIZATION path_owner;
CREATE SCHEMA b AUTHORIZATION path_owner;
CREATE SCHEMA c AUTHORIZATION path_group;
GRANT USAGE ON SCHEMA a TO path_other;
CREATE FUNCTION a.place() RETURNS text LANGUAGE sql AS $$ SELECT 'a' $$;
CREATE FUNCTION b.place() RETURNS text LANGUAGE sql AS $$ SELECT 'b' $$;
CREATE FUNCTION c.place() RETURNS text LANGUAGE sql AS $$ SELECT 'c' $$;
CREATE FUNCTION a.place_of_other() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN RETURN place(); END $$;
ALTER FUNCTION a.place_of_other() OWNER TO path_other;
CREATE FUNCTION a.make_nowhere() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
  CREATE SCHEMA IF NOT EXISTS nowhere;
  GRANT USAGE ON SCHEMA nowhere TO path_owner;
  CREATE OR REPLACE FUNCTION nowhere.place() RETURNS text LANGUAGE sql AS $f$ SELECT 'nowhere' $f$;
$$;
CREATE TABLE a.place_table AS SELECT 'a' AS place;
ALTER TABLE a.place_table OWNER TO path_owner;
SET ROLE path_owner;
SET search_path = a;
CREATE TABLE seen (position bigint PRIMARY KEY, session_path text, found text, path text);
CREATE FUNCTION on_place(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO seen VALUES (event.position, event.data ->> 'path',
    concat_ws(' ', place(), place_of_other(), (SELECT t.place FROM place_table AS t)), current_setting('search_path'));
  IF event.data ? 'do' THEN EXECUTE event.data ->> 'do'; END IF;
END $$;
RESET ROLE;
-- To its owner one path can mean the same, and to another's not.
GRANT USAGE, CREATE ON SCHEMA a TO path_group;
GRANT USAGE ON SCHEMA refold TO path_group;
GRANT SELECT ON refold.event TO path_group;
SET ROLE path_group;
CREATE TABLE seen_by_group (position bigint PRIMARY KEY, found text);
CREATE FUNCTION on_place_of_group(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO seen_by_group VALUES (event.position, place());
END $$;
RESET ROLE;
SELECT generation FROM refold.create_projection('seen', 'on_place(refold.event)', '{seen}', '{looked}');
SELECT generation FROM refold.create_projection('seen_by_group', 'on_place_of_group(refold.event)', '{seen_by_group}', '{looked}');
RESET search_path;
-- Appends twice, and tells what was found, and on which paths: the first may have to find out whether they mean the same.
CREATE FUNCTION look(what text, command text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  told text;
BEGIN
  FOR n IN 1..2 LOOP
    PERFORM refold.append_event('s', 'looked',
      pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('path', what, 'do', command)));
  END LOOP;
  SELECT pg_catalog.string_agg(DISTINCT s.found || ' on ' || s.path, '; ') INTO told FROM a.seen AS s WHERE s.session_path = what;
  RETURN pg_catalog.format('%s: %s', what, told);
END $$;

SET search_path = a;
SELECT public.look('the same');
SET search_path = A, nowhere;
SELECT public.look('the same and one that is not');
SET search_path = "$user", a;
SELECT public.look('the same after the user''s, which is not');
SET search_path = b, a;
SELECT public.look('another first');
SET search_path = b;
SELECT public.look('another');
SET search_path = '';
SELECT public.look('none');
SELECT set_config('search_path', '', false);
SELECT public.look('not even an empty name');
SET search_path = a, b, "$user";
SELECT public.look('one more behind');

-- A schema that comes to be, or to be seen, after the path was found to be the same.
SET search_path = nowhere, a;
SELECT public.look('before there is nowhere');
CREATE SCHEMA nowhere AUTHORIZATION path_owner;
CREATE FUNCTION nowhere.place() RETURNS text LANGUAGE sql AS $$ SELECT 'nowhere' $$;
SELECT public.look('nowhere is now');
DROP SCHEMA nowhere CASCADE;
SELECT public.look('after there was nowhere');
BEGIN;
CREATE SCHEMA nowhere AUTHORIZATION path_owner;
CREATE FUNCTION nowhere.place() RETURNS text LANGUAGE sql AS $$ SELECT 'nowhere' $$;
SELECT public.look('nowhere in this transaction');
ROLLBACK;
SELECT public.look('after the rollback');
SET search_path = nowhere, a;
SELECT public.look('made while it runs',
  $$SELECT a.make_nowhere(); UPDATE seen SET found = place() WHERE session_path = 'made while it runs'$$);
DROP SCHEMA nowhere CASCADE;
SET search_path = c, a;
SELECT public.look('one of others');
GRANT USAGE ON SCHEMA c TO path_other;
SELECT public.look('one of others, granted to the other');
GRANT USAGE ON SCHEMA c TO path_owner;
SELECT public.look('one of others, granted');
REVOKE USAGE ON SCHEMA c FROM path_owner;
SELECT public.look('one of others, revoked');
GRANT path_group TO path_owner;
SELECT public.look('one of others, by membership');
REVOKE path_group FROM path_owner;
SELECT public.look('one of others, no member');
ALTER ROLE path_owner SUPERUSER;
SELECT public.look('one of others, as superuser');
ALTER ROLE path_owner NOSUPERUSER;
CREATE SCHEMA d AUTHORIZATION pg_database_owner;
CREATE FUNCTION d.place() RETURNS text LANGUAGE sql AS $$ SELECT 'd' $$;
SET search_path = d, a;
SELECT public.look('the database owner''s');
SELECT format('ALTER DATABASE %I OWNER TO', current_database()) AS alter_owner \gset
:alter_owner path_owner;
SELECT public.look('the database owner''s, as that');
:alter_owner CURRENT_USER;

-- The user's own, of the owner and of those whose functions its handler calls.
SET search_path = "$user", a;
SELECT public.look('without a schema of theirs');
CREATE SCHEMA path_owner AUTHORIZATION path_owner;
CREATE FUNCTION path_owner.place() RETURNS text LANGUAGE sql AS $$ SELECT 'the owner''s own' $$;
SELECT public.look('with one of the owner''s');
DROP SCHEMA path_owner CASCADE;
SELECT public.look('without again');
CREATE SCHEMA path_other AUTHORIZATION path_other;
CREATE FUNCTION path_other.place() RETURNS text LANGUAGE sql AS $$ SELECT 'the other''s own' $$;
SELECT public.look('with one of the other''s');
ALTER SCHEMA path_other RENAME TO later;
SELECT public.look('without one more time');
ALTER ROLE path_group RENAME TO later;
SELECT public.look('with one of a role that has nothing to do with it');
ALTER SCHEMA later RENAME TO path_other;
SELECT public.look('with one of the other''s again');
DROP SCHEMA path_other CASCADE;

-- Who may make schemas could make the owner's while the handler runs.
SELECT format('GRANT CREATE ON DATABASE %I TO path_other', current_database()) AS grant_create,
  format('REVOKE CREATE ON DATABASE %I FROM path_other', current_database()) AS revoke_create \gset
:grant_create;
SELECT public.look('where another may make schemas');
:revoke_create;
SELECT public.look('where nobody else may');
SELECT format('ALTER DATABASE %I OWNER TO', current_database()) AS alter_owner \gset
:alter_owner path_other;
SELECT public.look('where another owns the database');
:alter_owner CURRENT_USER;
SELECT set_config('search_path', '$USER, a', false);
SELECT public.look('in capitals');

-- What is temporary comes first, unless a path says otherwise.
SET search_path = a;
SELECT public.look('before a temporary table');
CREATE FUNCTION public.make_temporary() RETURNS void LANGUAGE sql AS 'CREATE DOMAIN pg_temp.made AS int';
SELECT public.look('makes a temporary domain', 'SELECT public.make_temporary()');
CREATE TEMP TABLE place_table AS SELECT 'temporary' AS place;
GRANT SELECT ON place_table TO PUBLIC;
SELECT public.look('with a temporary table');
\c -
SET client_min_messages = warning;

-- Where new objects go is no matter of which schemas are searched only.
CREATE FUNCTION made(name text) RETURNS text LANGUAGE sql AS $$
  SELECT coalesce(string_agg(relnamespace::regnamespace::text, ', '), 'nowhere') FROM pg_class WHERE relname = name;
$$;
SET search_path = a;
SELECT public.look('makes a table', 'CREATE TABLE IF NOT EXISTS made_1 ()'), public.made('made_1');
SET search_path = pg_catalog, a;
SELECT public.look('makes another', 'CREATE TABLE IF NOT EXISTS made_2 ()'), public.made('made_2');
SET search_path = pg_temp, a;
SELECT public.look('makes a third', 'CREATE TABLE IF NOT EXISTS made_3 ()'), public.made('made_3');

-- What a handler sets is gone when it returns, and when it fails.
SET search_path = a;
SELECT public.look('sets it', 'SET search_path = b');
SHOW search_path;
SELECT public.look('sets it for the transaction', $$SELECT set_config('search_path', 'b', true)$$);
SHOW search_path;
SELECT public.look('fails', 'SET search_path = b; SELECT 1/0');
SHOW search_path;
SELECT public.look('after that');

RESET search_path;
SELECT DISTINCT found FROM a.seen;
SELECT count(*), count(DISTINCT found) FROM a.seen;
SELECT count(*), min(found), max(found) FROM a.seen_by_group;
DROP EXTENSION refold CASCADE;
DROP SCHEMA a, b, c, d CASCADE;
DROP FUNCTION look, made, make_temporary;
DROP OWNED BY later;
DROP ROLE path_owner, path_other, later;
