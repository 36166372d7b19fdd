-- The books of the demo, on either store; filled by the clients and by plain SQL over the log and the models.

-- What the clients were told is committed.
CREATE TABLE acknowledged (position bigint PRIMARY KEY);

-- What was found wrong with a finished model. The next rebuild may heal it, so it is looked for before each.
CREATE TABLE finding (
    pass       int NOT NULL,
    projection text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('lost', 'doubled', 'invented', 'out of order')),
    position   bigint,
    times      bigint NOT NULL
);
