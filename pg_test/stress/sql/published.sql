-- For the negative control, after the demo's published.sql: what the oracle reads there.
CREATE VIEW model_version AS SELECT name AS projection, 0::bigint AS generation, version FROM projection_status;
