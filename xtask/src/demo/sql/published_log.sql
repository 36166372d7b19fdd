-- The published protocol's log, before handlers.sql (whose functions take its row type).

CREATE TABLE event (
    position       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_id      text NOT NULL,
    stream_version bigint NOT NULL,
    event_type     text NOT NULL,
    data           jsonb NOT NULL,
    UNIQUE (stream_id, stream_version)
);

CREATE TABLE stream (
    stream_id text PRIMARY KEY,
    version   bigint NOT NULL
);
