CREATE EXTENSION refold;

-- A merge writes the rows whose images differ and no others, whatever their types: two without an equality of their
-- own, numbers that are equal but do not look so, nulls on either side.
CREATE TABLE thing (id numeric PRIMARY KEY, doc json, spot point, price numeric, zero float8, name text, note text);
CREATE FUNCTION on_thing(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO thing AS t VALUES ((event.data ->> 'id')::numeric, '{"a": 1}', '(1,2)', 1.0, 0, 'n', NULL)
    ON CONFLICT (id) DO UPDATE SET note = 'again';
$$;
SELECT generation FROM refold.create_projection('thing', 'on_thing(refold.event)', '{thing}');
SELECT count(refold.append_event('thing-' || n, 'made', jsonb_build_object('id', n || '.0'))) FROM generate_series(1, 12) AS n;
SELECT count(refold.append_event('thing-12', 'made', '{"id": "12.00"}'));
CREATE TABLE written (how text, was numeric, is_now numeric);
CREATE FUNCTION write_down() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.written VALUES (TG_OP, CASE WHEN TG_OP <> 'INSERT' THEN OLD.id END, CASE WHEN TG_OP <> 'DELETE' THEN NEW.id END);
  RETURN NULL;
END
$$;
CREATE TRIGGER write_down AFTER INSERT OR UPDATE OR DELETE ON thing FOR EACH ROW EXECUTE FUNCTION write_down();
CREATE TABLE right_model AS SELECT * FROM thing;

-- What is as it should be stays untouched.
CREATE TABLE places AS SELECT ctid AS place, xmin::text AS by_xid, id FROM thing;
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('thing');
SELECT count(*) FROM thing AS t JOIN places AS p ON (t.ctid, t.xmin::text, t.id) = (p.place, p.by_xid, p.id);
SELECT * FROM written;

-- Each row is wrong in one thing, and as many rows are missing as are too many.
UPDATE thing SET doc = '{"a":1}' WHERE id = 1;
UPDATE thing SET spot = '(1,2.0000000000000004)' WHERE id = 2;
UPDATE thing SET price = 1.00 WHERE id = 3;
UPDATE thing SET zero = '-0' WHERE id = 4;
UPDATE thing SET name = NULL WHERE id = 5;
UPDATE thing SET note = 'not null' WHERE id = 6;
UPDATE thing SET id = 7.00 WHERE id = 7;
UPDATE thing SET note = NULL WHERE id = 12;
DELETE FROM thing WHERE id IN (8, 9);
INSERT INTO thing (id) VALUES (0.5), ('NaN');
TRUNCATE written;
SELECT count(*) FROM refold.verify_projection('thing');
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('thing');
SELECT * FROM written ORDER BY how, coalesce(was, is_now);
SELECT * FROM thing ORDER BY id;
SELECT count(*) FROM right_model AS r JOIN thing AS t ON ROW(r.*)::record *= ROW(t.*)::record;
SELECT * FROM refold.verify_projection('thing');

-- Only too few rows; only too many; none at all.
DELETE FROM thing WHERE id < 4;
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('thing');
INSERT INTO thing (id) VALUES (-1);
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('thing');
DELETE FROM thing;
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('thing');
SELECT count(*) FROM right_model AS r JOIN thing AS t ON ROW(r.*)::record *= ROW(t.*)::record;
CREATE FUNCTION on_nothing(event refold.event) RETURNS void LANGUAGE sql AS '';
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('thing', 'on_nothing(refold.event)');
SELECT count(*) FROM thing;

-- A trigger for each statement sees the rows that a merge writes.
DROP TRIGGER write_down ON thing;
CREATE FUNCTION write_counts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.written SELECT TG_OP || ', rows', NULL, count(*) FROM rows HAVING count(*) > 0;
  RETURN NULL;
END
$$;
CREATE TRIGGER inserted AFTER INSERT ON thing REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION write_counts();
CREATE TRIGGER updated AFTER UPDATE ON thing REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION write_counts();
CREATE TRIGGER deleted AFTER DELETE ON thing REFERENCING OLD TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION write_counts();
INSERT INTO thing (id) VALUES (1), (2), (20);
TRUNCATE written;
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('thing', 'on_thing(refold.event)');
SELECT how, is_now FROM written ORDER BY how;
SELECT * FROM refold.verify_projection('thing');
