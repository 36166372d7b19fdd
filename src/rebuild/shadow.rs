//! The shadow of a projection: permanent tables of the same definition as the live ones, in a schema of their own, which
//! a concurrent rebuild fills in many transactions and whose storage it exchanges with the live tables' in the end.
//!
//! Schema and tables are members of the extension: pg_dump leaves them out, DROP EXTENSION takes them along, and nobody
//! drops them by accident. Users have no rights there; the live tables' owner owns them.

use super::definition;
use super::destination::Destination;
use super::swappable::require_swappable;
use crate::error::{Error, Result};
use crate::pg::catalog::Catalog;
use crate::pg::identity::{self, Settings};
use crate::pg::waitpoint::{self, Waitpoint};
use crate::pg::{locks, spi, storage};
use crate::projection::registry::Projection;
use pgrx::pg_sys;

/// A projection's shadow.
pub struct Shadow {
    /// Where a replay writes it.
    pub to: Destination,
    /// The shadow's tables, in the order of the live ones.
    pub tables: Vec<pg_sys::Oid>,
}

impl Shadow {
    /// Makes the empty shadow, with all keys, checks and indexes. 0A000 if a live table cannot be swapped, 42P06 if the
    /// schema exists. The caller holds a lock on the live tables.
    pub fn create(catalog: &Catalog, projection: &Projection) -> Result<Self> {
        let schema = schema_of(projection.id);
        let to = Self::destination(catalog, projection)?;
        projection.tables.iter().try_for_each(|&table| require_swappable(catalog, table))?;
        let statements = projection
            .tables
            .iter()
            .map(|&table| definition::statements_for(catalog, table, &schema, &projection.tables))
            .collect::<Result<Vec<_>>>()?
            .concat();
        let owner = identity::name_of(projection.owner);
        identity::as_refold(catalog.owner, || {
            spi::command(&format!("CREATE SCHEMA {schema} AUTHORIZATION {owner}"))
        })?;
        let pinned =
            Settings { search_path: "pg_catalog, pg_temp".to_owned(), ..projection.settings.clone() };
        identity::as_owner(projection.owner, &pinned, || {
            statements.iter().try_for_each(|statement| spi::command(statement).map(drop))
        })?;
        let tables: Vec<_> = to.tables.iter().map(|table| to.of(table)).collect();
        set_members(catalog, &schema, &tables, "ADD")?;
        Self::open(catalog, projection)?.ok_or_else(|| Error::damaged("the shadow is gone as soon as made"))
    }

    /// The shadow that is there, if any. 55000 if it is not like the live tables any more.
    pub fn open(catalog: &Catalog, projection: &Projection) -> Result<Option<Self>> {
        let Some(shadow) = Self::find(catalog, projection)? else { return Ok(None) };
        shadow.require_like_live(catalog, projection)?;
        Ok(Some(shadow))
    }

    /// The same without that check, which a swap makes. 55000 if a table of it is called otherwise than the live one.
    pub fn find(catalog: &Catalog, projection: &Projection) -> Result<Option<Self>> {
        let to = Self::destination(catalog, projection)?;
        let Some(members) = members(catalog, &schema_of(projection.id))? else { return Ok(None) };
        let tables = to.tables.iter().map(|table| {
            let found = members.iter().find(|(_, name)| *name == table.name).map(|&(oid, _)| oid);
            found.ok_or_else(|| {
                Error::wrong_state(format!("table {} has no shadow", table.qualified))
                    .detail("It was renamed since the shadow was made.")
                    .hint("Start the rebuild again.")
            })
        });
        let tables = tables.collect::<Result<_>>()?;
        Ok(Some(Self { to, tables }))
    }

    fn destination(catalog: &Catalog, projection: &Projection) -> Result<Destination> {
        Destination::copies(catalog, projection, schema_of(projection.id))
    }

    /// Exchanges the storage of the live tables and the shadow's; called again, swaps back. The caller holds
    /// AccessExclusiveLock on all of them and knows that no snapshot is older than the shadow is complete. 55000 if a live
    /// table's definition is not the one that was fingerprinted at the start, 0A000 if it cannot be swapped any more.
    pub fn swap(&self, catalog: &Catalog, projection: &Projection, fingerprint: &str) -> Result<()> {
        if self.require_like_live(catalog, projection)? != fingerprint {
            return Err(altered(projection));
        }
        for (&live, &shadow) in projection.tables.iter().zip(&self.tables) {
            require_swappable(catalog, live)?;
            storage::swap(live, shadow);
            waitpoint::reach(Waitpoint::SwapExchanged);
        }
        Ok(())
    }

    /// 55000 unless each table is like its shadow; returns the fingerprint of the live tables.
    fn require_like_live(&self, catalog: &Catalog, projection: &Projection) -> Result<String> {
        let mut hashes = Vec::with_capacity(self.tables.len());
        for ((&live, &shadow), table) in projection.tables.iter().zip(&self.tables).zip(&self.to.tables) {
            let live = definition::fingerprint(catalog, live)?;
            let shadow = definition::fingerprint(catalog, shadow)?;
            if live.storage != shadow.storage {
                let only =
                    |whose: &str, line: Option<&str>| line.map(|line| format!("Only {whose} has: {line}."));
                return Err(Error::wrong_state(format!(
                    "the shadow of table {} has another definition",
                    table.qualified
                ))
                .detail(
                    only("the table", live.first_not_in(&shadow))
                        .or_else(|| only("its shadow", shadow.first_not_in(&live)))
                        .unwrap_or_else(|| "One has an index twice.".to_owned()),
                )
                .hint("Start the rebuild again."));
            }
            hashes.push(live.whole);
        }
        Ok(joined(hashes))
    }
}

/// The schema of a projection's shadow.
fn schema_of(projection: i32) -> String {
    format!("refold_shadow_{projection}")
}

/// Removes a projection's shadow, with the storage that it has by then, whatever has become of the projection and its
/// tables; nothing where there is none. A schema of that name that is somebody else's stays.
pub fn remove(catalog: &Catalog, projection: i32) -> Result<()> {
    let schema = schema_of(projection);
    let Some(members) = members(catalog, &schema)? else { return Ok(()) };
    let tables: Vec<_> = members.iter().map(|(_, name)| format!("{schema}.{name}")).collect();
    set_members(catalog, &schema, &tables, "DROP")?;
    identity::as_refold_quiet(catalog.owner, || {
        spi::command(&format!("DROP SCHEMA {schema} CASCADE")).map(drop)
    })
}

/// The tables of a shadow with their names, quoted; none if no such schema is a member of the extension.
fn members(catalog: &Catalog, schema: &str) -> Result<Option<Vec<(pg_sys::Oid, String)>>> {
    const SCHEMA: &str = "SELECT n.oid FROM pg_namespace AS n JOIN pg_depend AS d ON d.objid = n.oid \
        JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'refold' \
        WHERE n.nspname = $1 AND d.classid = 'pg_namespace'::regclass AND d.refclassid = 'pg_extension'::regclass \
          AND d.deptype = 'e'";
    const TABLES: &str = "SELECT c.oid, quote_ident(c.relname) FROM pg_class AS c JOIN pg_depend AS d ON d.objid = c.oid \
        WHERE c.relnamespace = $1 AND c.relkind = 'r' AND d.classid = 'pg_class'::regclass \
          AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' ORDER BY c.oid";
    identity::as_refold_pinned(catalog.owner, || {
        let found: Option<pg_sys::Oid> =
            spi::query_once(SCHEMA, &[spi::arg(schema)], spi::Snapshot::Latest, |rows| Ok(rows.get(0, 0)))?;
        let Some(schema) = found else { return Ok(None) };
        spi::query_once(TABLES, &[spi::arg(schema)], spi::Snapshot::Latest, |rows| {
            (0..rows.len()).map(|row| Ok((rows.need(row, 0)?, rows.need(row, 1)?))).collect::<Result<_>>()
        })
        .map(Some)
    })
}

/// Makes schema and tables members of the extension, or not.
fn set_members(catalog: &Catalog, schema: &str, tables: &[String], change: &str) -> Result<()> {
    identity::as_refold_quiet(catalog.owner, || {
        for table in tables {
            spi::command(&format!("ALTER EXTENSION refold {change} TABLE {table}"))?;
        }
        spi::command(&format!("ALTER EXTENSION refold {change} SCHEMA {schema}")).map(drop)
    })
}

/// The indexes and toast tables of these tables, in the order in which they are locked after them.
pub fn parts(catalog: &Catalog, tables: &[pg_sys::Oid]) -> Result<Vec<pg_sys::Oid>> {
    const SQL: &str = "SELECT p.oid FROM (\
          SELECT i.indexrelid FROM pg_index AS i WHERE i.indrelid = ANY ($1) \
          UNION ALL SELECT c.reltoastrelid FROM pg_class AS c WHERE c.oid = ANY ($1) AND c.reltoastrelid <> 0\
        ) AS p (oid) ORDER BY p.oid";
    let args = [spi::arg(tables.to_vec())];
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &args, spi::Snapshot::Latest, |rows| {
            (0..rows.len()).map(|row| rows.need(row, 0)).collect()
        })
    })
}

/// Hashes of the live tables' definitions: what must be the same at the start of a rebuild and at its swap.
pub fn fingerprint(catalog: &Catalog, projection: &Projection) -> Result<String> {
    let hashes = projection.tables.iter().map(|&table| Ok(definition::fingerprint(catalog, table)?.whole));
    hashes.collect::<Result<_>>().map(joined)
}

fn joined(hashes: Vec<String>) -> String {
    hashes.join(" ")
}

/// One step of a shadow's life, for tests: `create`, `swap`, `analyze` or `drop`.
pub fn step(catalog: &Catalog, name: &str, step: &str) -> Result<()> {
    let projection = super::lock_with_tables(catalog, name)?;
    let missing = || Error::wrong_state(format!("projection \"{name}\" has no shadow"));
    if step == "drop" {
        members(catalog, &schema_of(projection.id))?.ok_or_else(missing)?;
        return remove(catalog, projection.id);
    }
    projection.require_owner()?;
    let open = || Shadow::open(catalog, &projection)?.ok_or_else(missing);
    match step {
        "create" => Shadow::create(catalog, &projection).map(drop),
        "analyze" => {
            let shadow = open()?;
            identity::as_owner(projection.owner, &projection.settings, || shadow.to.analyze())
        }
        "swap" => {
            let fingerprint = fingerprint(catalog, &projection)?;
            let shadow = Shadow::find(catalog, &projection)?.ok_or_else(missing)?;
            let mut tables = [projection.tables.as_slice(), &shadow.tables].concat();
            tables.sort_unstable_by_key(|table| table.to_u32());
            tables.extend(parts(catalog, &tables)?);
            tables.iter().for_each(|&table| locks::lock_relation(table, locks::Mode::AccessExclusive));
            shadow.swap(catalog, &projection, &fingerprint)
        }
        _ => Err(Error::bad_value(format!("unknown step \"{step}\""))),
    }
}

/// 55000 unless the live tables are defined as they were when this fingerprint was taken.
pub fn require_unaltered(catalog: &Catalog, projection: &Projection, fingerprint: &str) -> Result<()> {
    if self::fingerprint(catalog, projection)? == fingerprint { Ok(()) } else { Err(altered(projection)) }
}

fn altered(projection: &Projection) -> Error {
    Error::wrong_state(format!(
        "a table of projection \"{}\" was altered during the rebuild",
        projection.name
    ))
    .detail("The shadow has the definition that the table had at the start.")
    .hint("Undo the change and resume the job, or cancel it and start another.")
}
