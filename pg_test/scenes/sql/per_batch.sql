-- The balance of per_event.sql, a batch at a time.
CREATE TABLE model (stream_id text, stream_version bigint, item text, total int, PRIMARY KEY (stream_id, stream_version));

CREATE FUNCTION enter(events refold.event[], factor int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM meet(e.data->>'item') FROM unnest(events) AS e;
  INSERT INTO model
    SELECT e.stream_id, e.stream_version, e.data->>'item',
           factor * sum((e.data->>'amount')::int) OVER (PARTITION BY e.stream_id ORDER BY e.stream_version) + coalesce(
             (SELECT m.total FROM model AS m WHERE m.stream_id = e.stream_id ORDER BY m.stream_version DESC LIMIT 1), 0)
      FROM unnest(events) AS e;
END $$;

CREATE FUNCTION handle_1(events refold.event[]) RETURNS void LANGUAGE sql AS $$ SELECT enter(events, 1) $$;
CREATE FUNCTION handle_2(events refold.event[]) RETURNS void LANGUAGE sql AS $$ SELECT enter(events, 10) $$;

CREATE VIEW fold AS
  SELECT stream_id, stream_version, item,
         (factor * sum(amount) OVER (PARTITION BY stream_id ORDER BY stream_version))::int AS total
    FROM log, projection;
