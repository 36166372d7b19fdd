-- For the negative control, after the demo's published.sql: what the oracle reads there.
CREATE VIEW model_version AS
SELECT name AS projection, 0::bigint AS generation, 'active' AS mode, 1 AS what, version, NULL::bigint AS cut,
       NULL::bigint AS horizon, NULL::bigint AS built
FROM projection_status;
CREATE VIEW left_out AS SELECT NULL::text AS projection, NULL::bigint AS position, NULL::bigint AS generation WHERE false;
CREATE VIEW labelled_log AS SELECT *, NULL::bigint AS horizon FROM event_log;
