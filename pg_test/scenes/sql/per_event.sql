-- A handler that reads other rows than it writes, so that PostgreSQL finds no conflict for it: a stream's balance.
CREATE TABLE model (stream_id text, stream_version bigint, item text, total int, PRIMARY KEY (stream_id, stream_version));

CREATE FUNCTION enter(event refold.event, factor int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM meet(event.data->>'item');
  INSERT INTO model
    SELECT event.stream_id, event.stream_version, event.data->>'item', factor * (event.data->>'amount')::int + coalesce(
      (SELECT m.total FROM model AS m WHERE m.stream_id = event.stream_id ORDER BY m.stream_version DESC LIMIT 1), 0);
END $$;

CREATE FUNCTION handle_1(event refold.event) RETURNS void LANGUAGE sql AS $$ SELECT enter(event, 1) $$;
CREATE FUNCTION handle_2(event refold.event) RETURNS void LANGUAGE sql AS $$ SELECT enter(event, 10) $$;

CREATE VIEW fold AS
  SELECT stream_id, stream_version, item,
         (factor * sum(amount) OVER (PARTITION BY stream_id ORDER BY stream_version))::int AS total
    FROM log, projection;
