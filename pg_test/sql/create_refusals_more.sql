CREATE EXTENSION refold;

-- What could not work once events come is refused at creation, by its code.
CREATE FUNCTION code(name text, handler regprocedure, tables regclass[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM refold.create_projection(name, handler, tables);
  RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE;
END
$$;
CREATE TABLE a (id text PRIMARY KEY);
CREATE TABLE b (id text PRIMARY KEY);
CREATE TABLE c (id text PRIMARY KEY);
-- A variadic function is not called with an array.
CREATE FUNCTION many(VARIADIC events refold.event[]) RETURNS void LANGUAGE sql AS '';
SELECT code('many', 'many(refold.event[])', '{a}');
-- A security definer is not the projection's owner, and may not be led to a copy.
CREATE FUNCTION definer(event refold.event) RETURNS void LANGUAGE sql SECURITY DEFINER AS '';
SELECT code('definer', 'definer(refold.event)', '{b}');
-- A comment does nothing.
CREATE FUNCTION commented(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO c VALUES (event.stream_id); -- not public.c, and no append_event
$$;
SELECT code('commented', 'commented(refold.event)', '{c}');
