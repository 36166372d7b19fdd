//! What PostgreSQL knows about a handler or key function.

use crate::error::{Error, Result};
use crate::pg::catalog::Catalog;
use crate::pg::{identity, spi};
use pgrx::pg_sys;

/// A function, as far as refold cares.
pub struct Function {
    pub oid: pg_sys::Oid,
    /// `schema.name`, quoted.
    pub qualified: String,
    /// `schema.name(types)`, quoted: what it is stored as.
    pub signature: String,
    /// Changes when the definition does.
    pub fingerprint: String,
    pub arguments: Vec<pg_sys::Oid>,
    pub result: pg_sys::Oid,
    /// The columns of the result, as `FROM f(...)` has them.
    pub columns: Vec<pg_sys::Oid>,
    /// The table whose row type the result is, or InvalidOid.
    pub result_table: pg_sys::Oid,
    pub plain: bool,
    pub returns_set: bool,
    pub strict: bool,
    pub variadic: bool,
    pub security_definer: bool,
    pub sets_search_path: bool,
    /// In SQL: a statement that calls it may get its text instead of the call, and is then the faster one.
    pub in_sql: bool,
    /// Declared PARALLEL SAFE and not VOLATILE: a statement in a volatile function is a new command, which parallel mode
    /// refuses where something is written.
    pub parallel_safe: bool,
    /// Parsed when created (BEGIN ATOMIC): its names are bound to the tables of that moment.
    pub bound: bool,
    pub source: String,
}

const SQL: &str = "SELECT format('%I.%I', n.nspname, p.proname), p.oid::regprocedure::text, \
      refold._fingerprint(p.oid), \
      p.proargtypes::oid[], p.prorettype::oid, \
      CASE WHEN p.proallargtypes IS NOT NULL AND p.prorettype = 'record'::regtype THEN \
          ARRAY(SELECT a.type FROM unnest(p.proallargtypes, p.proargmodes) WITH ORDINALITY AS a (type, mode, n) \
                 WHERE a.mode IN ('o', 'b', 't') ORDER BY a.n) \
        WHEN t.typtype = 'c' THEN \
          ARRAY(SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = t.typrelid AND a.attnum > 0 \
                   AND NOT a.attisdropped ORDER BY a.attnum) \
        ELSE ARRAY[p.prorettype] END, \
      coalesce((SELECT c.oid FROM pg_class AS c WHERE c.oid = t.typrelid AND c.relkind IN ('r', 'p')), 0::oid), \
      p.prokind = 'f', p.proretset, p.proisstrict, \
      coalesce((SELECT bool_or(c LIKE 'search_path=%') FROM unnest(p.proconfig) AS c), false), \
      p.prosqlbody IS NOT NULL, p.prosrc, p.provariadic <> 0, p.prosecdef, \
      p.prolang = (SELECT l.oid FROM pg_language AS l WHERE l.lanname = 'sql'), \
      p.proparallel = 's' AND p.provolatile <> 'v' \
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_type AS t ON t.oid = p.prorettype \
    WHERE p.oid = $1";

impl Function {
    /// Reads the definition of a function that a caller has named; 42883 if there is none.
    pub fn read(catalog: &Catalog, oid: pg_sys::Oid) -> Result<Self> {
        Self::find(catalog, oid)?.ok_or_else(|| {
            Error::new(
                pgrx::PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
                format!("function with OID {} does not exist", oid.to_u32()),
            )
        })
    }

    /// Reads a function's definition, if there is one.
    pub fn find(catalog: &Catalog, oid: pg_sys::Oid) -> Result<Option<Self>> {
        identity::as_refold_pinned(catalog.owner, || {
            spi::query_once(SQL, &[spi::arg(oid)], spi::Snapshot::Latest, |rows| {
                if rows.len() == 0 {
                    return Ok(None);
                }
                Ok(Some(Self {
                    oid,
                    qualified: rows.need(0, 0)?,
                    signature: rows.need(0, 1)?,
                    fingerprint: rows.need(0, 2)?,
                    arguments: rows.need(0, 3)?,
                    result: rows.need(0, 4)?,
                    columns: rows.need(0, 5)?,
                    result_table: rows.need(0, 6)?,
                    plain: rows.need(0, 7)?,
                    returns_set: rows.need(0, 8)?,
                    strict: rows.need(0, 9)?,
                    sets_search_path: rows.need(0, 10)?,
                    bound: rows.need(0, 11)?,
                    source: rows.need(0, 12)?,
                    variadic: rows.need(0, 13)?,
                    security_definer: rows.need(0, 14)?,
                    in_sql: rows.need(0, 15)?,
                    parallel_safe: rows.need(0, 16)?,
                }))
            })
        })
    }
}

/// A function's source without the comments of SQL, as far as that can be told without parsing its language.
pub fn without_comments(source: &str) -> String {
    let mut rest = source;
    let mut kept = String::with_capacity(source.len());
    while let Some(start) = rest.find(['-', '/']) {
        let (before, comment) = rest.split_at(start);
        kept.push_str(before);
        let end = if comment.starts_with("--") {
            comment.find('\n').unwrap_or(comment.len())
        } else if comment.starts_with("/*") {
            comment.find("*/").map_or(comment.len(), |end| end + 2)
        } else {
            kept.push_str(&comment[..1]);
            1
        };
        rest = &comment[end..];
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::without_comments;

    #[test]
    fn comments_are_left_out() {
        assert_eq!(without_comments("a -- b\nc"), "a \nc");
        assert_eq!(without_comments("a /* b\n c */ d"), "a  d");
        assert_eq!(without_comments("a - b / c"), "a - b / c");
        assert_eq!(without_comments("a -- b"), "a ");
        assert_eq!(without_comments("a /* b"), "a ");
    }
}
