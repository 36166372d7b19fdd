-- Run as the superuser: the extension, and what its documentation says to grant.
CREATE EXTENSION refold;

GRANT CREATE, USAGE ON SCHEMA public TO stress_owner;
GRANT USAGE ON SCHEMA refold TO stress_owner, stress_app;
GRANT SELECT ON refold.event TO stress_owner, stress_app;
GRANT EXECUTE ON FUNCTION
    refold.create_projection,
    refold.rebuild_projection,
    refold.verify_projection,
    refold.drop_projection,
    refold.lock_gate
    TO stress_owner;
GRANT EXECUTE ON FUNCTION
    refold.append_event
    TO stress_owner, stress_app;
GRANT EXECUTE ON FUNCTION
    refold.append_events,
    refold.read_all
    TO stress_app;

CREATE VIEW event_log AS
SELECT position, stream_id, stream_version, event_type, data FROM refold.event;

-- Which version of its handler a projection's model shows, from plain tables only: so it is part of the snapshot of
-- whoever asks. A handler that was replaced in place names its version in its body, the others in their name.
CREATE VIEW model_version AS
SELECT p.name AS projection, p.generation,
       coalesce((regexp_match(f.prosrc, 'stress version (\d)'))[1], (regexp_match(f.proname, '_v(\d)$'))[1])::int AS version
FROM refold.projection p JOIN pg_proc f ON f.oid = p.handler;

GRANT SELECT ON event_log, model_version TO stress_owner, stress_app;
