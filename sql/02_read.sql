-- Reading the log.

CREATE FUNCTION refold.read_stream(
  stream_id text, from_version bigint DEFAULT 1, max_count bigint DEFAULT NULL, backwards boolean DEFAULT false
) RETURNS SETOF refold.event LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 100
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  IF read_stream.stream_id IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'stream_id must not be null';
  ELSIF read_stream.stream_id = '' THEN
    RAISE invalid_parameter_value USING MESSAGE = 'stream_id must not be empty';
  ELSIF from_version IS NULL OR backwards IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'from_version and backwards must not be null';
  ELSIF max_count < 0 THEN
    RAISE invalid_parameter_value USING MESSAGE = 'max_count must not be negative';
  ELSIF backwards THEN
    RETURN QUERY SELECT e.* FROM refold.event AS e
      WHERE e.stream_id = read_stream.stream_id AND e.stream_version >= from_version
      ORDER BY e.stream_version DESC LIMIT max_count;
  ELSE
    RETURN QUERY SELECT e.* FROM refold.event AS e
      WHERE e.stream_id = read_stream.stream_id AND e.stream_version >= from_version
      ORDER BY e.stream_version LIMIT max_count;
  END IF;
END
$$;
COMMENT ON FUNCTION refold.read_stream(text, bigint, bigint, boolean) IS
  'The events of one stream from a version on, in order; backwards: the newest first, down to from_version.';

CREATE FUNCTION refold._final_position() RETURNS bigint
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_final_position';
COMMENT ON FUNCTION refold._final_position() IS
  'a position up to which a snapshot taken after this call sees all there will ever be; beyond it only horizons tell. NULL: nothing does, the store is not open';

CREATE FUNCTION refold.read_all(
  after_position bigint DEFAULT 0, max_count bigint DEFAULT 1000, event_types text[] DEFAULT NULL
) RETURNS SETOF refold.event LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 1000
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  chunk CONSTANT bigint := 10000;
  wanted bigint := max_count;
  seen bigint := after_position;
  final bigint;
  chunk_end bigint;
  hole bigint;
  returned bigint;
BEGIN
  IF after_position IS NULL OR max_count IS NULL THEN
    RAISE null_value_not_allowed USING MESSAGE = 'after_position and max_count must not be null';
  ELSIF after_position < 0 OR max_count < 0 THEN
    RAISE invalid_parameter_value USING MESSAGE = 'after_position and max_count must not be negative';
  END IF;
  -- Lemma B without its wait: the positions first, then who may still fill one, then a new snapshot.
  final := refold._final_position();
  WHILE wanted > 0 LOOP
    -- Where it is not final, a gap is dead once no transaction that is older than the next event's horizon runs; but none
    -- is while a restore may fill it.
    SELECT max(e.position),
           min(e.previous + 1) FILTER (WHERE e.position > e.previous + 1 AND (final IS NULL
             OR e.position > final AND e.horizon > pg_snapshot_xmin(pg_current_snapshot())))
      INTO chunk_end, hole
      FROM (SELECT c.position, c.horizon, lag(c.position, 1, seen) OVER (ORDER BY c.position) AS previous
              FROM (SELECT i.position, i.horizon FROM refold.event AS i
                     WHERE i.position > seen ORDER BY i.position LIMIT greatest(least(wanted, chunk), 1000)) AS c) AS e;
    EXIT WHEN chunk_end IS NULL;
    RETURN QUERY SELECT e.* FROM refold.event AS e
      WHERE e.position > seen AND e.position <= chunk_end AND (hole IS NULL OR e.position < hole)
        AND (read_all.event_types IS NULL OR e.event_type = ANY (read_all.event_types))
      ORDER BY e.position LIMIT wanted;
    GET DIAGNOSTICS returned = ROW_COUNT;
    EXIT WHEN hole IS NOT NULL;
    wanted := wanted - returned;
    seen := chunk_end;
  END LOOP;
END
$$;
COMMENT ON FUNCTION refold.read_all(bigint, bigint, text[]) IS
  'The events after a position, in order. Never waits, and never passes a gap that an open append could still fill: a reader that goes on from the last position it got misses nothing.';
