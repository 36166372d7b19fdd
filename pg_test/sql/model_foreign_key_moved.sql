CREATE EXTENSION refold;

-- A new handler moves a child to another parent and drops the parent it had.
CREATE TABLE team (team_id text PRIMARY KEY, members int);
CREATE TABLE member (member_id text PRIMARY KEY, team_id text NOT NULL REFERENCES team);
CREATE FUNCTION on_join(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO team AS t VALUES (event.data ->> 'team', 1) ON CONFLICT (team_id) DO UPDATE SET members = t.members + 1;
  INSERT INTO member VALUES (event.stream_id, event.data ->> 'team');
END
$$;
SELECT generation FROM refold.create_projection('team', 'on_join(refold.event)', '{team,member}', '{joined}');
SELECT refold.append_event('ann', 'joined', '{"team": "blue"}');
SELECT refold.append_event('bob', 'joined', '{"team": "red"}');
SELECT refold.append_event('eve', 'joined', '{"team": "blue"}');
CREATE FUNCTION on_join_merged(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO team AS t VALUES ('green', 1) ON CONFLICT (team_id) DO UPDATE SET members = t.members + 1;
  INSERT INTO member VALUES (event.stream_id, 'green');
END
$$;
SELECT generation, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('team', 'on_join_merged(refold.event)');
SELECT * FROM team;
SELECT * FROM member ORDER BY member_id;
SELECT * FROM refold.verify_projection('team');
