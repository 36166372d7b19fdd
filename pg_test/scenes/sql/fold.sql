-- A fold whose rows several streams feed, so that it depends on the order of the log.
CREATE TABLE model (key text PRIMARY KEY, total int, items text, factor int);

CREATE FUNCTION key_of(event refold.event) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT event.data->>'key' $$;

CREATE FUNCTION handle_1(state model, event refold.event) RETURNS model LANGUAGE plpgsql AS $$
BEGIN
  PERFORM meet(event.data->>'item');
  RETURN ROW(event.data->>'key', coalesce(state.total, 0) + 1 * (event.data->>'amount')::int,
             concat_ws(',', state.items, event.data->>'item'), 1);
END $$;

CREATE FUNCTION handle_2(state model, event refold.event) RETURNS model LANGUAGE plpgsql AS $$
BEGIN
  PERFORM meet(event.data->>'item');
  RETURN ROW(event.data->>'key', coalesce(state.total, 0) + 10 * (event.data->>'amount')::int,
             concat_ws(',', state.items, event.data->>'item'), 10);
END $$;

CREATE VIEW fold AS
  SELECT key, (factor * sum(amount))::int AS total, string_agg(item, ',' ORDER BY position) AS items, factor
    FROM log, projection GROUP BY key, factor;
