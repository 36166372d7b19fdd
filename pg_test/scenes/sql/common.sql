-- A new database for scenes of one kind, and what handlers do beside handling.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS refold CASCADE;
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
CREATE EXTENSION refold;

-- While it has a row, handlers fail at the item "failing".
CREATE TABLE trouble (one int PRIMARY KEY);

-- A handler waits at the item "parking" while another session has the lock.
CREATE FUNCTION meet(item text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF item = 'parking' THEN
    PERFORM pg_advisory_xact_lock_shared(1);
  ELSIF item = 'failing' AND EXISTS (TABLE trouble) THEN
    RAISE 'there is trouble';
  END IF;
END $$;

-- The projection that there is, if any: the model of handle_2 has ten times the numbers of handle_1's.
CREATE VIEW projection AS
  SELECT CASE WHEN handler_signature LIKE '%handle\_2(%' THEN 10 ELSE 1 END AS factor
    FROM refold.projection WHERE name = 'model';

CREATE VIEW log AS
  SELECT position, stream_id, stream_version, data->>'item' AS item, data->>'key' AS key, (data->>'amount')::int AS amount
    FROM refold.event;
