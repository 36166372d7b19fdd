CREATE EXTENSION refold;

-- A handler may name a constraint, whatever it is called.
CREATE TABLE tally (person text CONSTRAINT "The key" PRIMARY KEY, n int, nick text CONSTRAINT "nick is unique" UNIQUE);
CREATE FUNCTION on_tally(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO tally AS t VALUES (event.stream_id, 1) ON CONFLICT ON CONSTRAINT "The key" DO UPDATE SET n = t.n + 1;
$$;
SELECT generation FROM refold.create_projection('tally', 'on_tally(refold.event)', '{tally}');
SELECT refold.append_event('ann', 'named', '{}');
SELECT refold.append_event('ann', 'named', '{}');
SELECT * FROM tally ORDER BY person;
SELECT * FROM refold.verify_projection('tally');
SELECT rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('tally');
