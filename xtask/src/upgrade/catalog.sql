-- Everything that makes an installed extension what it is, one line for each property: what, of which object, its value.
-- No OIDs and no attribute numbers: they tell how an object came to be, not what it is.
WITH member AS (
  SELECT d.classid, d.objid FROM pg_depend AS d
   WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
     AND d.refobjid = (SELECT e.oid FROM pg_extension AS e WHERE e.extname = 'refold')
), relation AS (
  SELECT c.* FROM pg_class AS c JOIN member AS m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
  UNION
  SELECT c.* FROM pg_class AS c JOIN pg_type AS t ON t.typrelid = c.oid
    JOIN member AS m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
), routine AS (
  SELECT p.* FROM pg_proc AS p JOIN member AS m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
), trigger AS (
  SELECT t.* FROM pg_trigger AS t JOIN relation AS c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
)
SELECT 'member', pg_describe_object(m.classid, m.objid, 0), '' FROM member AS m
UNION ALL SELECT 'extension', e.extname::text, concat_ws(' ', n.nspname, e.extrelocatable, e.extowner::regrole)
  FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'refold'
UNION ALL SELECT 'dumped', t::regclass::text, e.extcondition[i]
  FROM pg_extension AS e, unnest(e.extconfig) WITH ORDINALITY AS u (t, i) WHERE e.extname = 'refold'
UNION ALL SELECT 'schema', n.nspname::text, n.nspowner::regrole::text
  FROM pg_namespace AS n JOIN member AS m ON m.classid = 'pg_namespace'::regclass AND m.objid = n.oid
UNION ALL SELECT 'relation', c.oid::regclass::text, concat_ws(' ', c.relkind, c.relpersistence, c.relowner::regrole, c.reltablespace,
    am.amname, c.reloptions, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relhasrules)
  FROM relation AS c LEFT JOIN pg_am AS am ON am.oid = c.relam
UNION ALL SELECT 'column', format('%s.%I', a.attrelid::regclass, a.attname), concat_ws(' ',
    row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
    a.attgenerated, a.attstorage, nullif(a.attcompression, ''), nullif(a.attcollation, 0)::regcollation,
    -- Without PostgreSQL's own number of the column's layout.
    (SELECT array_agg(o) FROM unnest(a.attoptions) AS o WHERE o NOT LIKE 'pg\_attver=%'),
    pg_get_expr(d.adbin, d.adrelid))
  FROM pg_attribute AS a JOIN relation AS c ON c.oid = a.attrelid LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT 'definition', c.oid::regclass::text, pg_get_viewdef(c.oid) FROM relation AS c WHERE c.relkind IN ('v', 'm')
UNION ALL SELECT 'sequence', s.seqrelid::regclass::text, concat_ws(' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax, s.seqmin,
    s.seqcache, s.seqcycle)
  FROM pg_sequence AS s JOIN relation AS c ON c.oid = s.seqrelid
UNION ALL SELECT 'constraint', format('%I on %s', o.conname, o.conrelid::regclass), concat_ws(' ', pg_get_constraintdef(o.oid), o.convalidated)
  FROM pg_constraint AS o JOIN relation AS c ON c.oid = o.conrelid
UNION ALL SELECT 'index', i.indexrelid::regclass::text, concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisreplident)
  FROM pg_index AS i JOIN relation AS c ON c.oid = i.indrelid
UNION ALL SELECT 'trigger', format('%I on %s', t.tgname, t.tgrelid::regclass), concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
  FROM trigger AS t
UNION ALL SELECT 'policy', format('%I on %s', p.polname, p.polrelid::regclass), concat_ws(' ', p.polcmd, p.polroles, pg_get_expr(p.polqual, p.polrelid))
  FROM pg_policy AS p JOIN relation AS c ON c.oid = p.polrelid
UNION ALL SELECT 'routine', p.oid::regprocedure::text, concat_ws(' ', p.proowner::regrole,
    CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END)
  FROM routine AS p
UNION ALL SELECT 'aggregate', a.aggfnoid::regprocedure::text, concat_ws(' ', a.aggkind, a.aggtransfn, a.aggfinalfn, a.aggfinalextra,
    a.aggtranstype::regtype, a.agginitval, p.proparallel)
  FROM pg_aggregate AS a JOIN routine AS p ON p.oid = a.aggfnoid
UNION ALL SELECT 'type', t.oid::regtype::text, concat_ws(' ', t.typtype, t.typowner::regrole, (SELECT array_agg(e.enumlabel ORDER BY e.enumsortorder)
    FROM pg_enum AS e WHERE e.enumtypid = t.oid))
  FROM pg_type AS t JOIN member AS m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
UNION ALL SELECT 'comment', pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description
  FROM pg_description AS d
 WHERE (d.classoid, d.objoid) IN (SELECT m.classid, m.objid FROM member AS m)
    OR d.classoid = 'pg_class'::regclass AND d.objoid IN (SELECT c.oid FROM relation AS c)
    OR d.classoid = 'pg_trigger'::regclass AND d.objoid IN (SELECT t.oid FROM trigger AS t)
    OR d.classoid = 'pg_constraint'::regclass AND d.objoid IN (SELECT o.oid FROM pg_constraint AS o JOIN relation AS c ON c.oid = o.conrelid)
    OR d.classoid = 'pg_extension'::regclass AND d.objoid = (SELECT e.oid FROM pg_extension AS e WHERE e.extname = 'refold')
UNION ALL SELECT 'privilege', concat_ws(' ', a.which, p.privilege_type, coalesce(nullif(p.grantee, 0)::regrole::text, 'PUBLIC')),
    concat_ws(' ', p.grantor::regrole, p.is_grantable)
  FROM (SELECT r.oid::regprocedure::text, coalesce(r.proacl, acldefault('f', r.proowner)) FROM routine AS r
        UNION ALL SELECT c.oid::regclass::text, coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))
          FROM relation AS c WHERE c.relkind IN ('r', 'v', 'S')
        UNION ALL SELECT format('%s.%I', t.attrelid::regclass, t.attname), t.attacl FROM pg_attribute AS t JOIN relation AS c ON c.oid = t.attrelid
        UNION ALL SELECT n.nspname::text, coalesce(n.nspacl, acldefault('n', n.nspowner)) FROM pg_namespace AS n
          JOIN member AS m ON m.classid = 'pg_namespace'::regclass AND m.objid = n.oid) AS a (which, acl),
       LATERAL aclexplode(a.acl) AS p
UNION ALL SELECT 'initial privilege', concat_ws(' ', pg_describe_object(i.classoid, i.objoid, i.objsubid), p.privilege_type,
    coalesce(nullif(p.grantee, 0)::regrole::text, 'PUBLIC')), ''
  FROM pg_init_privs AS i JOIN member AS m ON m.classid = i.classoid AND m.objid = i.objoid, LATERAL aclexplode(i.initprivs) AS p
UNION ALL SELECT 'dependency', format('%s on %s', pg_describe_object(d.classid, d.objid, d.objsubid),
    pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)), string_agg(d.deptype::text, '' ORDER BY d.deptype)
  FROM pg_depend AS d JOIN member AS m ON m.classid = d.classid AND m.objid = d.objid
 WHERE d.classid <> 'pg_rewrite'::regclass GROUP BY d.classid, d.objid, d.objsubid, d.refclassid, d.refobjid, d.refobjsubid
ORDER BY 1, 2, 3
