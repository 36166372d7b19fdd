-- A git history's read models. Each file is a stream, each commit's change to it an event with this data:
--   {"commit", "opens_commit", "subject", "author", "email", "time", "path", "from"?, "added"?, "removed"?}
-- `from` is the path before a rename; a binary file has neither `added` nor `removed`; `opens_commit` is true for the
-- first of a commit's events, so that commits can be counted by counting events.

CREATE TABLE file (
    stream_id text PRIMARY KEY,                     -- the first path of the file
    path      text NOT NULL,                        -- the last one
    exists    boolean NOT NULL,
    changes   bigint NOT NULL,
    renames   bigint NOT NULL,
    added     bigint NOT NULL,
    removed   bigint NOT NULL,
    first_at  timestamptz NOT NULL,
    last_at   timestamptz NOT NULL
);

CREATE TABLE author (
    email    text PRIMARY KEY,
    name     text NOT NULL,                         -- the one used last
    commits  bigint NOT NULL,
    changes  bigint NOT NULL,
    added    bigint NOT NULL,
    removed  bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at  timestamptz NOT NULL
);

CREATE FUNCTION fold_file(state file, event refold.event) RETURNS file IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := to_timestamp((event.data->>'time')::bigint);
BEGIN
    IF state.stream_id IS NULL THEN
        state := ROW(event.stream_id, '', true, 0, 0, 0, 0, at, at)::file;
    END IF;
    state.path := event.data->>'path';
    state.exists := event.event_type <> 'file_deleted';
    state.changes := state.changes + 1;
    state.renames := state.renames + (event.event_type = 'file_renamed')::int;
    state.added := state.added + coalesce((event.data->>'added')::bigint, 0);
    state.removed := state.removed + coalesce((event.data->>'removed')::bigint, 0);
    state.first_at := least(state.first_at, at);
    state.last_at := greatest(state.last_at, at);
    RETURN state;
END
$$;

CREATE FUNCTION fold_author(state author, event refold.event) RETURNS author IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := to_timestamp((event.data->>'time')::bigint);
BEGIN
    IF state.email IS NULL THEN
        state := ROW(event.data->>'email', event.data->>'author', 0, 0, 0, 0, at, at)::author;
    END IF;
    IF at >= state.last_at THEN
        state.name := event.data->>'author';
    END IF;
    state.commits := state.commits + (event.data->>'opens_commit')::boolean::int;
    state.changes := state.changes + 1;
    state.added := state.added + coalesce((event.data->>'added')::bigint, 0);
    state.removed := state.removed + coalesce((event.data->>'removed')::bigint, 0);
    state.first_at := least(state.first_at, at);
    state.last_at := greatest(state.last_at, at);
    RETURN state;
END
$$;

-- Many files' events meet in one author's row.
CREATE FUNCTION author_key(event refold.event) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    RETURN event.data->>'email';
END
$$;

SELECT refold.create_projection('file', 'fold_file(file,refold.event)');
SELECT refold.create_projection('author', 'fold_author(author,refold.event)', key => 'author_key(refold.event)');
