//! Which tables can be a read model.

use crate::error::{Error, Result};
use crate::pg::catalog::Catalog;
use crate::pg::identity::Settings;
use crate::pg::{identity, spi};
use crate::projection::registry::Kind;
use pgrx::pg_sys;

const TABLE: &str = "SELECT format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relpersistence::text, \
      c.relowner, c.relforcerowsecurity, \
      EXISTS (SELECT FROM pg_inherits AS i WHERE c.oid IN (i.inhrelid, i.inhparent)), \
      EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate), \
      EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype & 3 = 3), \
      EXISTS (SELECT FROM pg_rewrite AS r WHERE r.ev_class = c.oid), \
      EXISTS (SELECT FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
               WHERE a.attrelid = c.oid AND NOT a.attisdropped \
                 AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval(%')), \
      EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND NOT i.indisprimary \
                AND (i.indisunique OR i.indisexclusion)) \
        AND EXISTS (SELECT FROM pg_constraint AS f WHERE f.confrelid = c.oid AND f.contype = 'f'), \
      EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tginitdeferred), \
      EXISTS (SELECT FROM pg_constraint AS f WHERE f.conrelid = c.oid AND f.contype = 'f' \
                AND f.confrelid = ANY ($2) AND (f.confdeltype NOT IN ('a', 'r') OR f.confupdtype NOT IN ('a', 'r'))), \
      EXISTS (SELECT FROM pg_index AS i JOIN pg_collation AS o ON o.oid = ANY (i.indcollation) \
               WHERE i.indrelid = c.oid AND i.indisprimary AND NOT o.collisdeterministic), \
      n.nspname IN ('refold', 'pg_catalog', 'information_schema'), \
      (SELECT p.name FROM refold.projection_table AS t JOIN refold.projection AS p USING (projection_id) \
        WHERE t.relation = c.oid) \
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = $1";

/// What [`TABLE`] tells about one table.
struct Facts {
    name: String,
    kind: String,
    persistence: String,
    owner: pg_sys::Oid,
    forces_row_security: bool,
    inherits: bool,
    has_key: bool,
    has_before_trigger: bool,
    has_rule: bool,
    draws_from_sequence: bool,
    unique_and_referenced: bool,
    has_deferred: bool,
    cascades: bool,
    key_is_vague: bool,
    system: bool,
    projection: Option<String>,
}

fn facts(catalog: &Catalog, table: pg_sys::Oid, tables: &[pg_sys::Oid]) -> Result<Facts> {
    identity::as_refold_pinned(catalog.owner, || {
        let args = [spi::arg(table), spi::arg(tables.to_vec())];
        spi::query_once(TABLE, &args, spi::Snapshot::Latest, |rows| {
            if rows.len() == 0 {
                return Err(Error::new(
                    pgrx::PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                    "the table of a projection does not exist any more",
                )
                .hint(
                    "Drop the projection with refold.drop_projection; refold.projections shows it as broken.",
                ));
            }
            Ok(Facts {
                name: rows.need(0, 0)?,
                kind: rows.need(0, 1)?,
                persistence: rows.need(0, 2)?,
                owner: rows.need(0, 3)?,
                forces_row_security: rows.need(0, 4)?,
                inherits: rows.need(0, 5)?,
                has_key: rows.need(0, 6)?,
                has_before_trigger: rows.need(0, 7)?,
                has_rule: rows.need(0, 8)?,
                draws_from_sequence: rows.need(0, 9)?,
                unique_and_referenced: rows.need(0, 10)?,
                has_deferred: rows.need(0, 11)?,
                cascades: rows.need(0, 12)?,
                key_is_vague: rows.need(0, 13)?,
                system: rows.need(0, 14)?,
                projection: rows.get(0, 15),
            })
        })
    })
}

/// Checks the tables of a projection; returns their owner, who owns the projection.
pub fn check(catalog: &Catalog, tables: &[pg_sys::Oid], new: bool) -> Result<pg_sys::Oid> {
    let mut owner = None;
    for (index, &table) in tables.iter().enumerate() {
        let facts = facts(catalog, table, tables)?;
        if tables[..index].contains(&table) {
            return Err(Error::bad_value(format!("table {} is named twice", facts.name)));
        }
        check_one(&facts, new)?;
        if *owner.get_or_insert(facts.owner) != facts.owner {
            return Err(Error::not_allowed("the tables of a projection must have one owner")
                .detail(format!("Table {} has another owner than the first.", facts.name))
                .hint("Use ALTER TABLE ... OWNER TO."));
        }
        if new && !identity::has_rights_of(facts.owner) {
            return Err(Error::not_allowed(format!("must be owner of table {}", facts.name)).hint(
                "Its owner or a member of that role may create the projection; handlers run as that role.",
            ));
        }
    }
    owner.ok_or_else(|| Error::bad_value("tables must not be empty"))
}

fn unowned(facts: &Facts) -> Result<()> {
    match &facts.projection {
        None => Ok(()),
        Some(other) => {
            Err(Error::in_use(format!("table {} belongs to projection \"{other}\"", facts.name)).hint(
                "A table belongs to one projection; let that one's handler write it, or drop that projection.",
            ))
        }
    }
}

/// 55006 if a table belongs to a projection by now. The caller holds the gate closed.
pub fn require_unowned(catalog: &Catalog, tables: &[pg_sys::Oid]) -> Result<()> {
    tables.iter().try_for_each(|&table| unowned(&facts(catalog, table, tables)?))
}

/// A new projection's tables are empty, and what its handler will find by their names.
pub fn check_contents(
    catalog: &Catalog,
    kind: Kind,
    tables: &[pg_sys::Oid],
    owner: pg_sys::Oid,
    settings: &Settings,
) -> Result<()> {
    for &table in tables {
        let name = facts(catalog, table, tables)?.name;
        if !is_empty(owner, settings, &name)? {
            return Err(Error::wrong_state(format!("table {name} is not empty"))
                .detail("A new projection's model is built from the log alone.")
                .hint("Truncate the table, or create another."));
        }
    }
    if kind == Kind::Fold {
        return Ok(());
    }
    identity::as_owner(owner, settings, || crate::projection::table::require_found_by_name(catalog, tables))
}

fn check_one(facts: &Facts, new: bool) -> Result<()> {
    let name = &facts.name;
    if new && let Some(other) = &facts.projection {
        return Err(Error::in_use(format!("table {name} belongs to projection \"{other}\"")).hint(
            "A table belongs to one projection; let that one's handler write it, or drop that projection.",
        ));
    }
    let refuse = |why: &str, hint: &str| {
        Err(Error::unsupported(format!("table {name} cannot be a read model")).detail(why).hint(hint))
    };
    if facts.system {
        return refuse("It belongs to the system.", "Name a table of your own.");
    }
    if facts.kind != "r" || facts.inherits {
        return refuse(
            "It is not an ordinary table, or has parents or children.",
            "Use a table without partitions and inheritance.",
        );
    }
    if facts.persistence != "p" {
        return refuse("It is temporary or unlogged: a crash would empty it.", "Use a permanent table.");
    }
    if !facts.has_key {
        return refuse(
            "It has no primary key, or a deferrable one.",
            "Add a primary key: ALTER TABLE ... ADD PRIMARY KEY.",
        );
    }
    if facts.has_before_trigger {
        return refuse(
            "It has a BEFORE row trigger, which would change rows again in each rebuild.",
            "Do in the handler what the trigger does.",
        );
    }
    if facts.has_rule {
        return refuse("It has a rule.", "Do in the handler what the rule does.");
    }
    if facts.forces_row_security {
        return refuse(
            "Its row-level security is forced on its owner, so a rebuild might not see all rows.",
            "Use ALTER TABLE ... NO FORCE ROW LEVEL SECURITY.",
        );
    }
    if facts.draws_from_sequence {
        return refuse(
            "It has a column that draws from a sequence, which would number its rows anew in each rebuild.",
            "Let the handler number rows by what the events say, such as event.position.",
        );
    }
    if facts.unique_and_referenced {
        return refuse(
            "It has a second unique key and is referenced by a foreign key: a rebuild could not swap unique values.",
            "Drop the foreign key or the second unique key.",
        );
    }
    if facts.has_deferred {
        return refuse(
            "It has an initially deferred constraint or trigger, which would run after the handler, with the rights of whoever appends.",
            "Use ALTER TABLE ... ALTER CONSTRAINT ... INITIALLY IMMEDIATE.",
        );
    }
    if facts.cascades {
        return refuse(
            "It has a foreign key to a table of the same projection that cascades: the copies of a rebuild have no foreign keys.",
            "Declare it NO ACTION and let the handler do what the cascade does.",
        );
    }
    if facts.key_is_vague {
        return refuse(
            "Its primary key has a nondeterministic collation.",
            "Use a deterministic collation, and lower() or the like in the key function.",
        );
    }
    Ok(())
}

/// Asked as the table's owner: only catalogs are read with refold's own rights.
fn is_empty(owner: pg_sys::Oid, settings: &Settings, qualified: &str) -> Result<bool> {
    let sql = format!("SELECT NOT EXISTS (SELECT FROM ONLY {qualified})");
    identity::as_owner(owner, settings, || {
        spi::query_once(&sql, &[], spi::Snapshot::Latest, |rows| rows.need(0, 0))
    })
}
