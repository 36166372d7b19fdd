//! What a table is, as SQL: the statements that make another of the same rows, keys, checks and indexes, and a hash
//! that tells two definitions apart.
//!
//! Other than `LIKE`, the statements keep the places of dropped columns: a row of one table can be read as a row of the
//! other. Triggers, foreign keys, policies and privileges are not part of it.

use crate::error::Result;
use crate::pg::catalog::Catalog;
use crate::pg::{identity, spi};
use pgrx::pg_sys;

/// A type without a name that a dropped column's place can be kept with: same length and alignment.
pub const PLACEHOLDER: &str = "SELECT t.oid::regtype::text FROM pg_type AS t \
    WHERE t.typlen = a.attlen AND t.typalign = a.attalign AND t.typbyval = a.attbyval AND t.typtype = 'b' \
      AND t.typnamespace = 'pg_catalog'::regnamespace ORDER BY t.oid LIMIT 1";

/// What follows the name and the table in the index's definition.
const INDEX_BODY: &str = "substr(pg_get_indexdef(i.indexrelid), length(format('CREATE %sINDEX %I ON %I.%I ', \
    CASE WHEN i.indisunique THEN 'UNIQUE ' END, ic.relname, n.nspname, c.relname)) + 1)";

/// The statements, by step and number. $1 is the table, $2 the schema for the new one, quoted, $3 all tables that get
/// into that schema: where two constraints want one name, the first one gets it.
// The option pg_attver of a column is none: minor versions of late 2026 number the layouts of a row type there.
fn statements() -> String {
    format!(
        "WITH t AS (\
           SELECT c.*, n.nspname, format('%s.%I', $2, c.relname) AS target \
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = $1\
         ), \
         columns AS (\
           SELECT a.*, format('%I %s%s%s%s', a.attname, \
                    CASE WHEN a.attisdropped THEN ({PLACEHOLDER}) ELSE format_type(a.atttypid, a.atttypmod) END, \
                    CASE WHEN a.attcollation <> y.typcollation \
                         THEN (SELECT format(' COLLATE %I.%I', s.nspname, o.collname) FROM pg_collation AS o \
                                 JOIN pg_namespace AS s ON s.oid = o.collnamespace WHERE o.oid = a.attcollation) END, \
                    CASE a.attgenerated WHEN '' THEN ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid) \
                      WHEN 's' THEN format(' GENERATED ALWAYS AS (%s) STORED', pg_get_expr(d.adbin, d.adrelid)) \
                      ELSE format(' GENERATED ALWAYS AS (%s) VIRTUAL', pg_get_expr(d.adbin, d.adrelid)) END, \
                    CASE WHEN a.attnotnull AND current_setting('server_version_num')::int < 180000 THEN ' NOT NULL' END) \
                  AS definition, y.typstorage \
             FROM pg_attribute AS a LEFT JOIN pg_type AS y ON y.oid = a.atttypid \
             LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
            WHERE a.attrelid = $1 AND a.attnum > 0\
         ), \
         options AS (\
           SELECT string_agg(format('%s%s=%L', o.prefix, split_part(o.option, '=', 1), \
                    substr(o.option, strpos(o.option, '=') + 1)), ', ') AS list \
             FROM (SELECT '' AS prefix, unnest(t.reloptions) AS option FROM t UNION ALL \
                   SELECT 'toast.', unnest(x.reloptions) FROM t JOIN pg_class AS x ON x.oid = t.reltoastrelid) AS o\
         ), \
         indexes AS (\
           SELECT i.*, {INDEX_BODY} AS body, o.contype, o.conname, o.oid AS constraint_oid, o.condeferrable, o.condeferred, \
                  CASE WHEN o.oid IS NULL OR EXISTS (SELECT FROM pg_class AS k WHERE k.oid = ANY ($3) AND k.relname = o.conname) \
                            OR EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = ANY ($3) AND k.conname = o.conname \
                                         AND k.conindid < i.indexrelid AND k.contype IN ('p', 'u', 'x')) \
                       THEN format('refold_%s_%s', array_position($3, $1), row_number() OVER (ORDER BY i.indexrelid)) ELSE o.conname END AS name, \
                  coalesce(s.spcname, (SELECT b.spcname FROM pg_database AS w JOIN pg_tablespace AS b ON b.oid = w.dattablespace \
                                        WHERE w.datname = current_database())) AS space \
             FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid JOIN pg_class AS c ON c.oid = i.indrelid \
             JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             LEFT JOIN pg_constraint AS o ON o.conindid = i.indexrelid AND o.conrelid = i.indrelid AND o.contype IN ('p', 'u', 'x') \
             LEFT JOIN pg_tablespace AS s ON s.oid = ic.reltablespace \
            WHERE i.indrelid = $1\
         ), \
         statistics AS (\
           SELECT x.*, format('%s.refold_%s_s%s', $2, array_position($3, $1), row_number() OVER (ORDER BY x.oid)) AS name \
             FROM pg_statistic_ext AS x WHERE x.stxrelid = $1\
         ) \
         SELECT q.sql FROM (\
           SELECT 0 AS step, 0::bigint AS number, format('CREATE TABLE %s (%s) USING %I %s TABLESPACE %I', t.target, \
                    (SELECT string_agg(l.definition, ', ' ORDER BY l.attnum) FROM columns AS l), \
                    (SELECT m.amname FROM pg_am AS m WHERE m.oid = t.relam), 'WITH (' || options.list || ')', \
                    coalesce((SELECT s.spcname FROM pg_tablespace AS s WHERE s.oid = t.reltablespace), \
                             (SELECT s.spcname FROM pg_database AS w JOIN pg_tablespace AS s ON s.oid = w.dattablespace \
                               WHERE w.datname = current_database()))) AS sql FROM t, options \
           UNION ALL SELECT 1, l.attnum, format('ALTER TABLE %s DROP COLUMN %I', t.target, l.attname) \
             FROM t, columns AS l WHERE l.attisdropped \
           UNION ALL SELECT 2, l.attnum, format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE %s', t.target, l.attname, \
               CASE l.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'm' THEN 'MAIN' WHEN 'e' THEN 'EXTERNAL' ELSE 'EXTENDED' END) \
             FROM t, columns AS l WHERE NOT l.attisdropped AND l.attstorage <> l.typstorage \
           UNION ALL SELECT 3, l.attnum, format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION %s', t.target, l.attname, \
               CASE l.attcompression WHEN 'l' THEN 'lz4' ELSE 'pglz' END) \
             FROM t, columns AS l WHERE NOT l.attisdropped AND l.attcompression <> '' \
           UNION ALL SELECT 4, l.attnum, format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', t.target, l.attname, \
               l.attstattarget) FROM t, columns AS l WHERE NOT l.attisdropped AND l.attstattarget >= 0 \
           UNION ALL SELECT 5, l.attnum, format('ALTER TABLE %s ALTER COLUMN %I SET (%s)', t.target, l.attname, \
               o.list) FROM t, columns AS l, LATERAL (SELECT string_agg(o, ', ') AS list FROM unnest(l.attoptions) AS o \
               WHERE o NOT LIKE 'pg\\_attver=%') AS o WHERE NOT l.attisdropped AND o.list IS NOT NULL \
           UNION ALL SELECT 6, o.oid::bigint, format('ALTER TABLE %s ADD CONSTRAINT %I %s', t.target, o.conname, \
               pg_get_constraintdef(o.oid)) FROM t, pg_constraint AS o WHERE o.conrelid = $1 AND o.contype IN ('c', 'n') \
           UNION ALL SELECT 7, i.indexrelid::bigint, CASE \
               WHEN i.contype = 'x' OR i.indisexclusion THEN format('ALTER TABLE %s ADD CONSTRAINT %I %s', t.target, i.name, \
                 pg_get_constraintdef(i.constraint_oid)) \
               ELSE format('CREATE %sINDEX %I ON %s %s', CASE WHEN i.indisunique THEN 'UNIQUE ' END, i.name, t.target, i.body) \
             END FROM t, indexes AS i \
           UNION ALL SELECT 8, i.indexrelid::bigint, format('ALTER TABLE %s ADD CONSTRAINT %I %s USING INDEX %I%s%s', t.target, \
               i.name, CASE i.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, i.name, \
               CASE WHEN i.condeferrable THEN ' DEFERRABLE' END, CASE WHEN i.condeferred THEN ' INITIALLY DEFERRED' END) \
             FROM t, indexes AS i WHERE i.contype IN ('p', 'u') AND NOT i.indisexclusion \
           UNION ALL SELECT 9, i.indexrelid::bigint, format('ALTER INDEX %s.%I SET TABLESPACE %I', $2, i.name, i.space) \
             FROM indexes AS i \
           UNION ALL SELECT 10, i.indexrelid::bigint * 32 + l.attnum, format('ALTER INDEX %s.%I ALTER COLUMN %s SET STATISTICS %s', \
               $2, i.name, l.attnum, l.attstattarget) \
             FROM indexes AS i JOIN pg_attribute AS l ON l.attrelid = i.indexrelid AND l.attstattarget >= 0 AND i.indkey[l.attnum - 1] = 0 \
           UNION ALL SELECT 11, x.oid::bigint, format('CREATE STATISTICS %s %s ON %s FROM %s', x.name, \
               (SELECT '(' || string_agg(CASE k WHEN 'd' THEN 'ndistinct' WHEN 'f' THEN 'dependencies' ELSE 'mcv' END, ', ') || ')' \
                  FROM unnest(x.stxkind) AS k WHERE k <> 'e'), pg_get_statisticsobjdef_columns(x.oid), t.target) \
             FROM t, statistics AS x \
           UNION ALL SELECT 12, x.oid::bigint, format('ALTER STATISTICS %s SET STATISTICS %s', x.name, x.stxstattarget) \
             FROM statistics AS x WHERE x.stxstattarget >= 0\
         ) AS q ORDER BY q.step, q.number"
    )
}

/// The statements that make an empty table like `relation` in `schema`, beside those made for the other `tables`.
pub fn statements_for(
    catalog: &Catalog,
    relation: pg_sys::Oid,
    schema: &str,
    tables: &[pg_sys::Oid],
) -> Result<Vec<String>> {
    let args = [spi::arg(relation), spi::arg(schema), spi::arg(tables.to_vec())];
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(&statements(), &args, spi::Snapshot::Latest, |rows| {
            (0..rows.len()).map(|row| rows.need(row, 0)).collect()
        })
    })
}

/// A table's definition, to be compared.
pub struct Fingerprint {
    /// What a table and its shadow have in common, as sorted lines.
    pub storage: Vec<String>,
    /// A hash of that and of names: the table's own, and those of its keys.
    pub whole: String,
}

impl Fingerprint {
    /// A line that only one of the two has.
    pub fn first_not_in(&self, other: &Self) -> Option<&str> {
        self.storage.iter().find(|line| !other.storage.contains(line)).map(String::as_str)
    }
}

/// Reads the fingerprint; the caller holds a lock on the table that keeps it from being altered.
pub fn fingerprint(catalog: &Catalog, relation: pg_sys::Oid) -> Result<Fingerprint> {
    let sql = format!(
        "WITH t AS (\
           SELECT c.*, n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = $1\
         ), \
         lines AS (\
           SELECT format('kind %s %s %s of %s', c.relkind, c.relpersistence, c.relam, c.relowner::regrole) AS line FROM t AS c \
           UNION ALL SELECT format('tablespace %I', s.spcname) FROM t AS c JOIN pg_tablespace AS s ON s.oid = c.reltablespace \
           UNION ALL SELECT CASE WHEN a.attisdropped \
               THEN format('column %s dropped, length %s, alignment %s, by value %s', a.attnum, a.attlen, a.attalign, a.attbyval) \
               ELSE concat_ws(' ', 'column', a.attnum, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), \
                 CASE WHEN a.attcollation <> 0 THEN format('collation %s', a.attcollation::regcollation) END, \
                 CASE WHEN a.attnotnull THEN 'not null' END, CASE WHEN a.attidentity <> '' THEN 'identity' END, \
                 CASE WHEN a.attgenerated <> '' THEN format('generated %s', a.attgenerated) END, \
                 CASE WHEN a.atthasdef THEN format('default %s', pg_get_expr(d.adbin, d.adrelid)) END) END \
             FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
            WHERE a.attrelid = $1 AND a.attnum > 0 \
           UNION ALL SELECT format('constraint %I %s', o.conname, pg_get_constraintdef(o.oid)) \
             FROM pg_constraint AS o WHERE o.conrelid = $1 AND o.contype IN ('c', 'n') \
           UNION ALL SELECT concat_ws(' ', 'index', {INDEX_BODY}, pg_get_constraintdef(o.oid), \
               CASE WHEN i.indisunique THEN 'unique' END, CASE WHEN i.indisprimary THEN 'primary' END, \
               CASE WHEN i.indisexclusion THEN 'exclusion' END, CASE WHEN NOT i.indimmediate THEN 'deferrable' END, \
               CASE WHEN NOT i.indisvalid THEN 'invalid' END, (SELECT format('in tablespace %I', s.spcname) FROM pg_tablespace AS s WHERE s.oid = ic.reltablespace)) \
             FROM t AS c JOIN pg_index AS i ON i.indrelid = c.oid JOIN pg_class AS ic ON ic.oid = i.indexrelid \
             CROSS JOIN LATERAL (SELECT c.nspname) AS n \
             LEFT JOIN pg_constraint AS o ON o.conindid = i.indexrelid AND o.conrelid = $1 AND o.contype IN ('p', 'u', 'x')\
         ), \
         names AS (\
           SELECT format('%I.%I', t.nspname, t.relname) AS name FROM t \
           UNION ALL SELECT format('%I %s', o.conname, pg_get_constraintdef(o.oid)) \
             FROM pg_constraint AS o WHERE o.conrelid = $1 AND o.contype IN ('p', 'u', 'x')\
         ) \
         SELECT (SELECT array_agg(line ORDER BY line) FROM lines), md5(concat_ws(E'\\n', \
           (SELECT string_agg(line, E'\\n' ORDER BY line) FROM lines), (SELECT string_agg(name, E'\\n' ORDER BY name) FROM names)))"
    );
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(&sql, &[spi::arg(relation)], spi::Snapshot::Latest, |rows| {
            Ok(Fingerprint { storage: rows.need(0, 0)?, whole: rows.need(0, 1)? })
        })
    })
}
