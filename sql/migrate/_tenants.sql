-- Whether what refold has no notion of, tenants and archived streams, is to be copied, and how.
--
-- Before: the view tenancy, of (tenant, is_archived, source_position), a row for each event.

DO $$
DECLARE
  seen record;
BEGIN
  SELECT string_agg(t.tenant, ', ' ORDER BY t.tenant) AS tenants, count(*) AS n, bool_or(t.lacks_position) AS lacks_position,
         bool_or(t.has_archived AND pg_temp.option('tenant') IN ('', t.tenant)) AS has_archived
    INTO seen
    FROM (SELECT t.tenant, bool_or(t.source_position IS NULL) AS lacks_position, bool_or(t.is_archived) AS has_archived
            FROM tenancy AS t GROUP BY t.tenant) AS t;
  IF seen.lacks_position THEN
    PERFORM pg_temp.refuse('22004', 'some events have no global position', NULL, 'Give them one in the old store.');
  END IF;
  IF seen.n > 1 AND pg_temp.option('tenant') = '' AND pg_temp.option('by_tenant') <> 'on' THEN
    PERFORM pg_temp.refuse('0A000', 'the old store has several tenants', format('They are %s.', seen.tenants),
      'refold''s streams belong to no tenant. Copy one: --set=tenant=NAME; or all, with streams that are named TENANT/STREAM: --set=by_tenant=on.');
  END IF;
  IF seen.has_archived AND pg_temp.option('archived') = 'refuse' THEN
    PERFORM pg_temp.refuse('0A000', 'the old store has archived streams',
      'In refold no event is archived: every projection would take them.',
      'Leave them out: --set=archived=skip; or copy them as any other: --set=archived=copy.');
  END IF;
END $$;
