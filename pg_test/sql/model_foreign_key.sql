CREATE EXTENSION refold;

-- A tree in one table.
CREATE TABLE node (node_id text PRIMARY KEY, parent_id text REFERENCES node, depth int);
CREATE FUNCTION on_node(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO node SELECT event.stream_id, event.data ->> 'parent',
    coalesce((SELECT p.depth + 1 FROM node AS p WHERE p.node_id = event.data ->> 'parent'), 0);
$$;
SELECT generation FROM refold.create_projection('node', 'on_node(refold.event)', '{node}', '{grown}');
SELECT refold.append_event('z', 'grown', '{}');
SELECT refold.append_event('y', 'grown', '{"parent": "z"}');
SELECT refold.append_event('x', 'grown', '{"parent": "y"}');
SELECT refold.append_event('w', 'grown', '{"parent": "nobody"}');
SELECT * FROM node ORDER BY depth;
SELECT * FROM refold.verify_projection('node');
DELETE FROM node WHERE node_id = 'x';
UPDATE node SET depth = 9;
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('node');
DELETE FROM node WHERE node_id = 'x';
DELETE FROM node WHERE node_id = 'y';
DELETE FROM node WHERE node_id = 'z';
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('node');
SELECT * FROM node ORDER BY depth;

-- A table outside refers to the model: rows that stay keep their referrers, through whatever a rebuild changes.
CREATE TABLE review (review_id int PRIMARY KEY, node_id text REFERENCES node ON DELETE CASCADE);
INSERT INTO review VALUES (1, 'z'), (2, 'x');
UPDATE node SET depth = 9;
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('node');
SELECT * FROM review ORDER BY review_id;
