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
    refold.lock_gate,
    refold.start_rebuild,
    refold.pause_rebuild,
    refold.resume_rebuild,
    refold.cancel_rebuild,
    refold.finish_rebuild,
    refold.rollback_projection,
    refold.skip_event
    TO stress_owner;
GRANT EXECUTE ON PROCEDURE refold.rebuild_projection_concurrently TO stress_owner;
GRANT EXECUTE ON FUNCTION
    refold.append_event
    TO stress_owner, stress_app;
GRANT EXECUTE ON FUNCTION
    refold.append_events,
    refold.read_all
    TO stress_app;

-- Counts, whatever becomes of the transaction, how often a handler has failed on purpose.
CREATE SEQUENCE flaws;
GRANT USAGE ON SEQUENCE flaws TO stress_owner;

CREATE VIEW event_log AS
SELECT position, stream_id, stream_version, event_type, data FROM refold.event;

-- The same with what tells whether an event came before the end of a transaction.
CREATE VIEW labelled_log AS
SELECT position, stream_id, stream_version, event_type, data, horizon::text::bigint AS horizon FROM refold.event;

-- A handler that was replaced in place names its version in its body, the others in their name.
CREATE VIEW handler_version AS
SELECT oid AS handler,
       coalesce((regexp_match(prosrc, 'stress version (\d)'))[1], (regexp_match(proname, '_v(\d)$'))[1])::int AS version
FROM pg_proc WHERE prolang <> 12;

-- Events that were left out, and in which generation: a model that was built in a later one does not have them. And which
-- generation's model a rollback has brought back. Both are written together with what they tell of.
CREATE TABLE skip_note (
    projection_id integer, position bigint, generation bigint NOT NULL, PRIMARY KEY (projection_id, position)
);
CREATE TABLE rollback_note (
    projection_id integer, generation bigint, built bigint NOT NULL, PRIMARY KEY (projection_id, generation)
);

-- Rebuilds in place that have emptied the tables, or that another has overtaken; of one that was sent back to its beginning
-- also up to where it had come: until somebody empties the tables again, they hold that. (No plan leaves out an event before
-- it.)
CREATE TABLE back_note (job_id bigint PRIMARY KEY, checkpoint bigint);

CREATE FUNCTION note_back() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO back_note
    SELECT j.job_id, CASE WHEN j.job_id = NEW.job_id AND NEW.phase = 'emptying' THEN OLD.checkpoint END
    FROM refold.rebuild_job j
    WHERE j.projection_id = NEW.projection_id AND (j.job_id = NEW.job_id OR j.in_place AND j.phase = 'emptying')
    ON CONFLICT (job_id) DO UPDATE SET checkpoint = excluded.checkpoint;
    RETURN NULL;
END
$$;

CREATE TRIGGER note_back AFTER UPDATE ON refold.rebuild_job FOR EACH ROW
WHEN (NEW.in_place AND (OLD.phase, NEW.phase) IN (('building', 'emptying'), ('emptying', 'building')))
EXECUTE FUNCTION note_back();

CREATE VIEW left_out AS
SELECT p.name AS projection, s.position, s.generation FROM skip_note s JOIN refold.projection p USING (projection_id);

CREATE FUNCTION note_skip(name text, "position" bigint) RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = public, pg_temp BEGIN ATOMIC
    INSERT INTO skip_note SELECT p.projection_id, note_skip.position, p.generation
    FROM refold.projection p WHERE p.name = note_skip.name
    ON CONFLICT DO NOTHING;
END;

-- The last swap has made one generation, its rollback the next.
CREATE FUNCTION note_rollback(name text) RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = public, pg_temp BEGIN ATOMIC
    INSERT INTO rollback_note SELECT p.projection_id, p.generation, coalesce(r.built, p.generation - 2)
    FROM refold.projection p
    LEFT JOIN rollback_note r ON r.projection_id = p.projection_id AND r.generation = p.generation - 2
    WHERE p.name = note_rollback.name;
END;

-- What a projection's tables may show, from plain tables only: so it is part of the snapshot of whoever asks. One row for
-- each model that they may equal, all of it: the version of its handler, up to which position, and up to which horizon, and
-- the generation in which it was built: events that were left out before are not in it.
-- Without a version, nothing can be said.
CREATE VIEW model_version AS
SELECT p.name AS projection, p.generation, p.mode, m.what, h.version, m.cut, m.horizon, coalesce(r.built, m.built) AS built
FROM refold.projection p
CROSS JOIN LATERAL (
    SELECT 1 AS what, p.handler, NULL::bigint AS cut, NULL::bigint AS horizon, p.generation AS built
    WHERE p.mode <> 'skipping'
    UNION ALL
    -- A snapshot between flip and swap sees the new model once the two have changed places; one in the grace period sees
    -- the old one after a rollback.
    SELECT 2, j.mirror_handler, NULL, NULL, p.generation + CASE WHEN j.phase = 'grace' THEN -1 ELSE 1 END
    FROM refold.rebuild_job j
    WHERE p.mode = 'mirroring' AND j.projection_id = p.projection_id AND j.state IN ('running', 'paused')
    UNION ALL
    -- In place: exactly what the last job that has emptied the tables says it has replayed.
    (SELECT 3, j.handler, j.checkpoint, NULL, p.generation + 1 FROM refold.rebuild_job j
     WHERE p.mode = 'skipping' AND j.projection_id = p.projection_id AND j.in_place AND j.phase = 'building'
     ORDER BY j.job_id DESC LIMIT 1)
    UNION ALL
    -- Appends skip it already, and it has not been emptied yet: the old model up to the flip.
    SELECT 4, p.handler, NULL, p.xmin::text::bigint, p.generation
    WHERE p.mode = 'skipping' AND EXISTS (SELECT FROM refold.rebuild_job j
        WHERE j.projection_id = p.projection_id AND j.in_place AND j.phase = 'emptying'
          AND NOT EXISTS (SELECT FROM back_note n WHERE n.job_id = j.job_id))
    UNION ALL
    -- Sent back to its beginning, and not emptied again yet.
    SELECT 7, j.handler, n.checkpoint, NULL, p.generation + 1
    FROM refold.rebuild_job j JOIN back_note n USING (job_id)
    WHERE p.mode = 'skipping' AND j.projection_id = p.projection_id AND n.checkpoint IS NOT NULL
    UNION ALL
    -- Not built yet.
    SELECT 5, p.handler, 0, NULL, p.generation
    WHERE p.mode = 'skipping' AND NOT EXISTS (SELECT FROM refold.rebuild_job j
        WHERE j.projection_id = p.projection_id AND j.in_place AND j.phase = 'building')
    UNION ALL
    -- The flip of the first is not to be had any more.
    SELECT 6, NULL, NULL, NULL, NULL
    WHERE p.mode = 'skipping' AND (SELECT count(*) FROM refold.rebuild_job j
        WHERE j.projection_id = p.projection_id AND j.in_place AND j.phase = 'emptying'
          AND NOT EXISTS (SELECT FROM back_note n WHERE n.job_id = j.job_id)) > 1
) m
LEFT JOIN rollback_note r ON r.projection_id = p.projection_id AND r.generation = m.built
LEFT JOIN handler_version h ON h.handler = m.handler;

-- Models that still have an event which was left out since they were built.
CREATE VIEW outdated AS
SELECT DISTINCT projection FROM model_version JOIN left_out USING (projection)
WHERE what IN (1, 4) AND left_out.generation >= built;

-- Models that are about to be swapped.
CREATE VIEW swapped_soon AS
SELECT p.name AS projection FROM refold.projection p JOIN refold.rebuild_job j USING (projection_id)
WHERE j.state = 'running' AND NOT j.in_place AND j.phase <> 'cleaning up';

GRANT SELECT ON event_log, labelled_log, left_out, model_version, outdated, swapped_soon TO stress_owner, stress_app;
