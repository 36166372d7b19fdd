-- A restore in several transactions, the later positions first. A reader that follows passes no gap before the store is open,
-- and misses nothing.
CREATE EXTENSION refold;
CREATE TABLE follower (reached bigint NOT NULL, got bigint[] NOT NULL);
INSERT INTO follower VALUES (0, '{}');
CREATE FUNCTION follow() RETURNS bigint[] LANGUAGE sql AS $$
  UPDATE follower SET (reached, got) = (
      SELECT coalesce(max(e.position), reached), got || coalesce(array_agg(e.position ORDER BY e.position), '{}')
        FROM refold.read_all(reached) AS e)
    RETURNING got
$$;
CREATE PROCEDURE restore(positions bigint[]) LANGUAGE sql AS $$
  INSERT INTO refold.event (position, stream_id, stream_version, event_type, data, metadata, event_id, recorded_at, horizon)
    OVERRIDING SYSTEM VALUE SELECT p, 's', p, 'restored', '{}', '{}', gen_random_uuid(), now(), '3' FROM unnest(positions) AS p
$$;

CALL restore('{1,2,5}');
SELECT follow();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT follow();
COMMIT;
CALL restore('{4,7}');
SELECT follow();
CALL restore('{3}');
SELECT follow();
-- From now on 6 is dead.
SELECT refold.open_store();
SELECT follow();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT position FROM refold.read_all(5);
COMMIT;
SELECT position FROM refold.append_event('s', 'appended', '{}');
SELECT follow();
