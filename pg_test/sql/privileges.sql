CREATE EXTENSION refold;
CREATE ROLE privileges_app;
CREATE ROLE privileges_dev;
CREATE ROLE privileges_dba;
CREATE ROLE privileges_monitor IN ROLE pg_monitor;
CREATE ROLE privileges_stranger;

-- A stranger may nothing.
SET ROLE privileges_stranger;
SELECT refold.append_event('s', 't', '{}');
SELECT * FROM refold.event;
SELECT * FROM refold.projections;
RESET ROLE;
GRANT USAGE ON SCHEMA refold TO privileges_stranger;
SET ROLE privileges_stranger;
SELECT refold.append_event('s', 't', '{}');
SELECT refold.append_events('s', '[]');
SELECT refold.read_stream('s');
SELECT refold.read_all();
SELECT * FROM refold.event;
SELECT * FROM refold.projections;
SELECT refold.create_projection('p', 'x(refold.event)');
SELECT refold.rebuild_projection('p');
SELECT refold.verify_projection('p');
SELECT refold.drop_projection('p');
SELECT refold.lock_gate();
BEGIN;
LOCK TABLE refold.gate IN ACCESS SHARE MODE;
ROLLBACK;
RESET ROLE;

-- The application appends and reads.
GRANT USAGE ON SCHEMA refold TO privileges_app;
GRANT EXECUTE ON FUNCTION refold.append_event, refold.append_events, refold.read_stream, refold.read_all TO privileges_app;
SET ROLE privileges_app;
SELECT refold.append_event('s', 't', '{}');
SELECT refold.append_events('s', '[{"type": "t", "data": 1}]', 1);
\set SHOW_CONTEXT never
SELECT refold.read_stream('s');
\set SHOW_CONTEXT errors
RESET ROLE;
GRANT SELECT ON refold.event TO privileges_app;
SET ROLE privileges_app;
SELECT stream_version FROM refold.read_stream('s');
SELECT position FROM refold.read_all();
INSERT INTO refold.event (stream_id, stream_version, event_type, data, event_id, horizon)
  VALUES ('s', 3, 't', '{}', gen_random_uuid(), pg_current_xact_id());
DELETE FROM refold.event;
SELECT nextval('refold.event_position_seq');
SELECT * FROM refold.projection;
RESET ROLE;

-- The developer owns tables and projections, and needs no more than this.
CREATE SCHEMA dev AUTHORIZATION privileges_dev;
GRANT USAGE ON SCHEMA refold TO privileges_dev;
GRANT SELECT ON refold.event TO privileges_dev;
GRANT EXECUTE ON FUNCTION refold.create_projection, refold.rebuild_projection, refold.verify_projection, refold.drop_projection
  TO privileges_dev;
SET ROLE privileges_dev;
SET search_path = dev;
CREATE TABLE cart (cart_id text PRIMARY KEY, n int);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 1
$$;
SELECT generation, rows_inserted FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
SELECT * FROM refold.verify_projection('cart');
SELECT generation FROM refold.rebuild_projection('cart');
SELECT refold.append_event('s', 't', '{}');
SELECT * FROM refold.projections;
SELECT refold.drop_projection('cart');
TRUNCATE cart;
SELECT generation, rows_inserted FROM refold.create_projection('cart', 'fold_cart(cart, refold.event)');
RESET search_path;
RESET ROLE;
SET ROLE privileges_app;
SELECT (refold.append_event('s', 't', '{}')).stream_version;
SELECT * FROM dev.cart;
RESET ROLE;
SELECT * FROM dev.cart;

-- The dba rebuilds and watches what others own, and changes none of it.
GRANT USAGE ON SCHEMA refold, dev TO privileges_dba;
GRANT EXECUTE ON FUNCTION refold.rebuild_projection, refold.verify_projection, refold.drop_projection, refold.create_projection
  TO privileges_dba;
CREATE FUNCTION public.fold_cart_evil(state dev.cart, event refold.event) RETURNS dev.cart LANGUAGE sql AS $$ SELECT NULL::dev.cart $$;
SET ROLE privileges_dba;
SELECT generation FROM refold.rebuild_projection('cart');
SELECT refold.rebuild_projection('cart', 'public.fold_cart_evil(dev.cart, refold.event)');
SELECT refold.drop_projection('cart');
SELECT refold.create_projection('mine', 'public.fold_cart_evil(dev.cart, refold.event)');
RESET ROLE;
SET ROLE privileges_monitor;
SELECT name, state, owner FROM refold.projections;
SELECT count(*) FROM refold.rebuild_progress;
SELECT * FROM refold.event;
RESET ROLE;

-- A handler runs as the owner of the tables, under the settings of the projection's creation, whoever appends.
SET ROLE privileges_dev;
SET search_path = dev, public;
SET timezone = 'Asia/Tokyo';
SET datestyle = 'German';
SET intervalstyle = 'sql_standard';
CREATE TABLE who (event_type text PRIMARY KEY, as_user text, as_session text, path text, settings text, shown text);
CREATE FUNCTION on_who(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO who VALUES (event.event_type, current_user, session_user,
    regexp_replace(current_setting('search_path'), '^refold_copy_\d+, ', ''),
    concat_ws('; ', current_setting('timezone'), current_setting('datestyle'), current_setting('intervalstyle')),
    concat_ws('; ', timestamptz '2026-01-02 03:04:05+00', interval '1 day 2 hours'));
END
$$;
SELECT generation FROM refold.create_projection('who', 'on_who(refold.event)', '{who}', '{by app,by superuser}');
RESET search_path;
RESET timezone;
RESET datestyle;
RESET intervalstyle;
RESET ROLE;
SET ROLE privileges_app;
SET timezone = 'America/New_York';
SET search_path = pg_catalog;
SELECT (refold.append_event('s', 'by app', '{}')).stream_version;
SELECT current_user, current_setting('search_path'), current_setting('timezone');
RESET ROLE;
RESET search_path;
RESET timezone;
SELECT (refold.append_event('s', 'by superuser', '{}')).stream_version;
\x
SELECT * FROM dev.who;
\x

-- Nor does it matter whether the session had the same settings at the append before.
CREATE TABLE public.told (position bigint PRIMARY KEY, shown text);
CREATE FUNCTION public.on_told(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO told VALUES (event.position, concat_ws('; ', to_timestamp(1e9), interval '1 day 2 hours'));
$$;
SELECT generation FROM refold.create_projection('told', 'public.on_told(refold.event)', '{public.told}', '{tell}');
SELECT (refold.append_event('told', 'tell', '{}')).stream_version;
SET timezone = 'Asia/Tokyo';
SELECT (refold.append_event('told', 'tell', '{}')).stream_version;
RESET timezone;
SELECT (refold.append_event('told', 'tell', '{}')).stream_version;
SET datestyle = 'German';
SELECT (refold.append_event('told', 'tell', '{}')).stream_version;
SET datestyle = 'ISO, DMY';
SELECT (refold.append_event('told', 'tell', '{}')).stream_version;
RESET datestyle;
SELECT (refold.append_event('told', 'tell', '{}')).stream_version;
SET intervalstyle = 'sql_standard';
SELECT (refold.append_event('told', 'tell', '{}')).stream_version;
RESET intervalstyle;
SELECT shown, count(*) FROM public.told GROUP BY shown;
SELECT * FROM refold.verify_projection('who');
SET ROLE privileges_dba;
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('who');
RESET ROLE;

-- What a handler may not, although it may do what its owner may.
SET ROLE privileges_dev;
SET search_path = dev;
CREATE TABLE tried (stream_id text PRIMARY KEY, result text);
CREATE FUNCTION on_try(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE event.data ->> 'do';
  INSERT INTO tried VALUES (event.stream_id, 'done');
EXCEPTION WHEN OTHERS THEN
  INSERT INTO tried VALUES (event.stream_id, SQLSTATE || ' ' || SQLERRM);
END
$$;
SELECT generation FROM refold.create_projection('try', 'on_try(refold.event)', '{tried}', '{try}');
RESET search_path;
RESET ROLE;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA refold TO privileges_dev;
SELECT (refold.append_event('try-' || n, 'try', jsonb_build_object('do', command))).stream_version FROM unnest(ARRAY[
  'SELECT 1',
  'RESET ROLE',
  'SET ROLE postgres',
  'SET SESSION AUTHORIZATION postgres',
  'CREATE TEMP TABLE t ()',
  'DECLARE c CURSOR WITH HOLD FOR SELECT 1',
  'LISTEN x',
  'SELECT refold.append_event(''x'', ''y'', ''{}'')',
  'SELECT refold.append_events(''x'', ''[]'')',
  'SELECT refold.create_projection(''x'', ''dev.on_try(refold.event)'', ''{dev.tried}'')',
  'SELECT refold.rebuild_projection(''cart'')',
  'SELECT refold.verify_projection(''cart'')',
  'SELECT refold.drop_projection(''cart'')',
  'SELECT refold.lock_gate()',
  'INSERT INTO refold.event SELECT * FROM refold.event',
  'SELECT * FROM refold.projection',
  'COMMIT']) WITH ORDINALITY AS c (command, n);
SELECT e.data ->> 'do' AS command, t.result FROM dev.tried AS t JOIN refold.event AS e USING (stream_id) ORDER BY e.position;
SELECT current_user, session_user;
SELECT refold.append_event('after', 't', '{}') IS NOT NULL AS appended;

DROP EXTENSION refold CASCADE;
DROP OWNED BY privileges_app, privileges_dev, privileges_dba, privileges_stranger CASCADE;
DROP ROLE privileges_app, privileges_dev, privileges_dba, privileges_monitor, privileges_stranger;
