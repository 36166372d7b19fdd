CREATE EXTENSION refold;
CREATE EXTENSION amcheck;
CREATE EXTENSION pg_visibility;

-- Toast tables go by link: where both have one, where one has, and where the rows are older than the shadow.
CREATE FUNCTION faults(relation regclass) RETURNS TABLE (relation_ regclass, fault text) LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY SELECT relation, 'heap: ' || msg FROM verify_heapam(relation, check_toast => true);
  RETURN QUERY SELECT relation, 'not frozen: ' || t_ctid FROM pg_check_frozen(relation);
  RETURN QUERY SELECT relation, 'not visible: ' || t_ctid FROM pg_check_visible(relation);
  PERFORM bt_index_parent_check(indexrelid, true, true) FROM pg_index AS i JOIN pg_class AS c ON c.oid = indexrelid
    WHERE c.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')
      AND indrelid IN (relation, (SELECT reltoastrelid FROM pg_class WHERE oid = relation));
END
$$;
CREATE FUNCTION content(relation regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
  EXECUTE format('SELECT concat_ws('' '', count(*), sum(length(b)), left(md5(string_agg(b, '''' ORDER BY a)), 6)) FROM %s', relation) INTO result;
  RETURN result;
END
$$;
CREATE VIEW toast AS
  SELECT c.relname, t.relname = 'pg_toast_' || c.oid AS named, d.deptype
    FROM pg_class AS c LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid
    LEFT JOIN pg_depend AS d ON d.objid = t.oid AND d.refobjid = c.oid
   WHERE c.relname IN ('live', 'shadow') ORDER BY c.relname;

-- Both. The old rows are older than the shadow's relfrozenxid.
CREATE TABLE live (a int PRIMARY KEY, b text);
ALTER TABLE live ALTER b SET STORAGE external;
INSERT INTO live SELECT n, repeat('live ', n * 500) FROM generate_series(1, 30) AS n;
CREATE TABLE shadow (LIKE live INCLUDING ALL);
INSERT INTO shadow SELECT n, repeat('shadow ', n * 600) FROM generate_series(1, 20) AS n;
VACUUM shadow;
SELECT relname, relallvisible FROM pg_class WHERE relname IN ('live', 'shadow') ORDER BY 1;
SELECT content('live') AS live, content('shadow') AS shadow;
SELECT refold._swap_storage('live', 'shadow');
SELECT content('live') AS live, content('shadow') AS shadow;
TABLE toast;
SELECT * FROM faults('live') UNION ALL SELECT * FROM faults('shadow');
SELECT l.relfrozenxid::text::bigint > s.relfrozenxid::text::bigint AS newer FROM pg_class AS l, pg_class AS s WHERE l.relname = 'live' AND s.relname = 'shadow';
SELECT relname, relallvisible FROM pg_class WHERE relname IN ('live', 'shadow') ORDER BY 1;
-- The name of its toast table is free for who rewrites it.
VACUUM FULL live;
CLUSTER shadow USING shadow_pkey;
UPDATE live SET b = b || 'more' WHERE a % 2 = 0;
SELECT content('live') AS live, content('shadow') AS shadow;
TABLE toast;
SELECT * FROM faults('live') UNION ALL SELECT * FROM faults('shadow');
SELECT refold._swap_storage('live', 'shadow');
SELECT content('live') AS live, content('shadow') AS shadow;
DROP TABLE live;
SELECT content('shadow');
DROP TABLE shadow;

-- Only live has one: its column was not PLAIN always.
CREATE TABLE live (a int PRIMARY KEY, b text);
INSERT INTO live SELECT n, repeat('live ', n * 5000) FROM generate_series(1, 30) AS n;
ALTER TABLE live ALTER b SET STORAGE plain;
CREATE TABLE shadow (LIKE live INCLUDING ALL);
INSERT INTO shadow SELECT n, repeat('s', n) FROM generate_series(1, 30) AS n;
TABLE toast;
SELECT refold._swap_storage('live', 'shadow');
SELECT content('live') AS live, content('shadow') AS shadow;
TABLE toast;
SELECT * FROM faults('live') UNION ALL SELECT * FROM faults('shadow');
INSERT INTO live VALUES (31, repeat('x', 9000));
ALTER TABLE live ALTER b SET STORAGE extended;
INSERT INTO live SELECT 31, string_agg(md5(n::text), '') FROM generate_series(1, 999) AS n;
SELECT * FROM faults('live') UNION ALL SELECT * FROM faults('shadow');
SELECT refold._swap_storage('live', 'shadow');
SELECT content('live') AS live, content('shadow') AS shadow;
TABLE toast;
SELECT refold._swap_storage('shadow', 'live');
DROP TABLE shadow;
SELECT content('live');
SELECT * FROM faults('live');
DROP TABLE live;

-- Neither has one.
CREATE TABLE live (a int PRIMARY KEY);
CREATE TABLE shadow (LIKE live INCLUDING ALL);
INSERT INTO shadow VALUES (1);
SELECT refold._swap_storage('live', 'shadow');
TABLE live;
TABLE toast;

-- No file is left behind.
DROP TABLE live, shadow;
CHECKPOINT;
SELECT count(*) FROM pg_ls_dir('base/' || (SELECT oid FROM pg_database WHERE datname = current_database())) AS f (name)
 WHERE name ~ '^[0-9]+' AND substring(name FROM '^[0-9]+')::oid NOT IN (SELECT pg_relation_filenode(oid) FROM pg_class WHERE pg_relation_filenode(oid) IS NOT NULL);
