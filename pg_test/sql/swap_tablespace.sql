CREATE EXTENSION refold;

-- A shadow lies where its table lies, whatever this session's default is; and each file stays where it is.
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE swap_tablespace_1 LOCATION '';
CREATE TABLESPACE swap_tablespace_2 LOCATION '';
CREATE FUNCTION on_event(event refold.event) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE TABLE far (id text, note text) TABLESPACE swap_tablespace_1;
ALTER TABLE far ADD PRIMARY KEY (id) USING INDEX TABLESPACE swap_tablespace_2, ADD EXCLUDE USING btree (note WITH =) USING INDEX TABLESPACE swap_tablespace_1;
CREATE INDEX ON far (note) TABLESPACE swap_tablespace_2;
CREATE INDEX ON far (note DESC);
CREATE TABLE near (id text PRIMARY KEY);
SELECT generation FROM refold.create_projection('far', 'on_event(refold.event)', '{far, near}');
SET default_tablespace = swap_tablespace_2;
SELECT refold._shadow_step('far', 'create');
RESET default_tablespace;
CREATE VIEW places AS SELECT c.relnamespace::regnamespace AS schema, t.relname, pg_get_indexdef(c.oid) ~ 'UNIQUE' AS is_unique, c.relkind, s.spcname
  FROM pg_class AS t JOIN pg_class AS c ON c.oid IN (SELECT t.oid UNION SELECT t.reltoastrelid UNION SELECT indexrelid FROM pg_index WHERE indrelid = t.oid)
  LEFT JOIN pg_tablespace AS s ON s.oid = c.reltablespace WHERE t.relname IN ('near', 'far') AND c.relname !~ 'toast'
  ORDER BY t.relname, c.relkind, c.relnamespace::regnamespace, c.oid;
TABLE places;
INSERT INTO far VALUES ('live', 'live');
INSERT INTO refold_shadow_1.far VALUES ('shadow', 'shadow');
SELECT refold._shadow_step('far', 'swap');
TABLE far;
SELECT count(*) FROM (TABLE places) AS p WHERE relname = 'near' AND spcname IS NULL;
-- A table that has moved meanwhile would move back.
ALTER TABLE near SET TABLESPACE swap_tablespace_1;
SELECT refold._shadow_step('far', 'swap');
ALTER TABLE refold_shadow_1.near SET TABLESPACE swap_tablespace_1;
SELECT refold._shadow_step('far', 'swap');
TABLE far;
-- By itself a swap exchanges places too.
ALTER TABLE near SET TABLESPACE swap_tablespace_2;
INSERT INTO near VALUES ('live');
SELECT refold._swap_storage('near', 'refold_shadow_1.near');
SELECT relnamespace::regnamespace, spcname FROM pg_class AS c JOIN pg_tablespace AS s ON s.oid = reltablespace WHERE relname = 'near' ORDER BY 1;
SELECT 'live' AS model, * FROM near UNION ALL SELECT 'shadow', * FROM refold_shadow_1.near;
SELECT refold._shadow_step('far', 'drop');
DROP TABLE near, far;
DROP TABLESPACE swap_tablespace_1;
DROP TABLESPACE swap_tablespace_2;
