-- Both models beside plain sums over the log, and the log's own totals.
WITH change AS (
    SELECT position, stream_id, stream_version, event_type, data->>'email' AS email, data->>'author' AS author,
           data->>'path' AS path, (data->>'opens_commit')::boolean AS opens_commit,
           coalesce((data->>'added')::bigint, 0) AS added, coalesce((data->>'removed')::bigint, 0) AS removed,
           NOT data ? 'added' AS is_binary, to_timestamp((data->>'time')::bigint) AS at
    FROM refold.event
),
file_by_hand AS (
    SELECT stream_id, (array_agg(path ORDER BY stream_version DESC))[1],
           (array_agg(event_type ORDER BY stream_version DESC))[1] <> 'file_deleted',
           count(*), count(*) FILTER (WHERE event_type = 'file_renamed'), sum(added), sum(removed), min(at), max(at)
    FROM change
    GROUP BY stream_id
),
file_as_kept AS (
    SELECT stream_id, path, exists, changes, renames, added::numeric, removed::numeric, first_at, last_at FROM file
),
author_by_hand AS (
    SELECT email, (array_agg(author ORDER BY at DESC, position DESC))[1], count(*) FILTER (WHERE opens_commit),
           count(*), sum(added), sum(removed), min(at), max(at)
    FROM change
    GROUP BY email
),
author_as_kept AS (
    SELECT email, name, commits, changes, added::numeric, removed::numeric, first_at, last_at FROM author
)
SELECT (SELECT count(DISTINCT stream_id) FROM (
            (TABLE file_by_hand EXCEPT TABLE file_as_kept) UNION ALL
            (TABLE file_as_kept EXCEPT TABLE file_by_hand)) d) AS wrong_files,
       (SELECT count(DISTINCT email) FROM (
            (TABLE author_by_hand EXCEPT TABLE author_as_kept) UNION ALL
            (TABLE author_as_kept EXCEPT TABLE author_by_hand)) d) AS wrong_authors,
       (SELECT count(*) FROM file) AS files,
       (SELECT count(*) FROM author) AS authors,
       (SELECT count(*) FROM change) AS changes,
       (SELECT coalesce(sum(changes), 0)::bigint FROM file) AS file_changes,
       (SELECT coalesce(sum(added), 0)::bigint FROM file) AS file_added,
       (SELECT coalesce(sum(removed), 0)::bigint FROM file) AS file_removed,
       (SELECT coalesce(sum(changes), 0)::bigint FROM author) AS author_changes,
       (SELECT coalesce(sum(added), 0)::bigint FROM author) AS author_added,
       (SELECT coalesce(sum(removed), 0)::bigint FROM author) AS author_removed,
       (SELECT count(*) FROM change WHERE is_binary) AS binary_changes
