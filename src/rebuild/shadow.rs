//! The shadow of a projection: permanent tables of the same definition as the live ones, in a schema of their own, which
//! a concurrent rebuild fills in many transactions and whose storage it exchanges with the live tables' in the end.
//!
//! Schema and tables are members of the extension: pg_dump leaves them out, DROP EXTENSION takes them along, and nobody
//! drops them by accident. Users have no rights there; the live tables' owner owns them.

use super::definition::{self, Fingerprint};
use super::destination::Destination;
use super::swappable::require_swappable;
use crate::error::{Error, Result};
use crate::pg::catalog::Catalog;
use crate::pg::identity::{self, Settings};
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
    /// The schema of a projection's shadow.
    pub fn schema(projection: &Projection) -> String {
        format!("refold_shadow_{}", projection.id)
    }

    /// Makes the empty shadow, with all keys, checks and indexes. 0A000 if a live table cannot be swapped, 42P06 if the
    /// schema exists. The caller holds a lock on the live tables.
    pub fn create(catalog: &Catalog, projection: &Projection) -> Result<Self> {
        let schema = Self::schema(projection);
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
        make_member(catalog, &to, &schema)?;
        Self::open(catalog, projection)?.ok_or_else(|| Error::damaged("the shadow is gone as soon as made"))
    }

    /// The shadow that is there, if any. 55000 if it is not like the live tables any more.
    pub fn open(catalog: &Catalog, projection: &Projection) -> Result<Option<Self>> {
        let Some(shadow) = Self::find(catalog, projection)? else { return Ok(None) };
        shadow.require_like_live(catalog, projection)?;
        Ok(Some(shadow))
    }

    /// The shadow that is there, whatever has become of it.
    pub fn find(catalog: &Catalog, projection: &Projection) -> Result<Option<Self>> {
        const SQL: &str = "SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
            WHERE n.nspname = $1 AND c.relname = (SELECT l.relname FROM pg_class AS l WHERE l.oid = $2) AND c.relkind = 'r' \
              AND EXISTS (SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid \
                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e' \
                  AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'refold')";
        let to = Self::destination(catalog, projection)?;
        let mut tables = Vec::with_capacity(projection.tables.len());
        for &live in &projection.tables {
            let args = [spi::arg(Self::schema(projection)), spi::arg(live)];
            let found: Option<pg_sys::Oid> = identity::as_refold_pinned(catalog.owner, || {
                spi::query_once(SQL, &args, spi::Snapshot::Latest, |rows| Ok(rows.get(0, 0)))
            })?;
            let Some(table) = found else { return Ok(None) };
            tables.push(table);
        }
        Ok(Some(Self { to, tables }))
    }

    fn destination(catalog: &Catalog, projection: &Projection) -> Result<Destination> {
        Destination::copies(catalog, projection, Self::schema(projection))
    }

    /// Exchanges the storage of the live tables and the shadow's; called again, swaps back. The caller holds
    /// AccessExclusiveLock on all of them and knows that no snapshot is older than the shadow is complete. 55000 if a live
    /// table's definition is not the one that was fingerprinted at the start, 0A000 if it cannot be swapped any more.
    pub fn swap(&self, catalog: &Catalog, projection: &Projection, fingerprint: &str) -> Result<()> {
        if self::fingerprint(catalog, projection)? != fingerprint {
            return Err(Error::wrong_state(format!(
                "a table of projection \"{}\" was altered during the rebuild",
                projection.name
            ))
            .detail("The shadow has the definition that the table had at the start.")
            .hint("Start the rebuild again."));
        }
        self.require_like_live(catalog, projection)?;
        for (&live, &shadow) in projection.tables.iter().zip(&self.tables) {
            require_swappable(catalog, live)?;
            storage::swap(live, shadow);
        }
        Ok(())
    }

    fn require_like_live(&self, catalog: &Catalog, projection: &Projection) -> Result<()> {
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
        }
        Ok(())
    }
}

/// Makes schema and tables members of the extension.
fn make_member(catalog: &Catalog, to: &Destination, schema: &str) -> Result<()> {
    identity::as_refold_quiet(catalog.owner, || {
        for table in &to.tables {
            spi::command(&format!("ALTER EXTENSION refold ADD TABLE {}", to.of(table)))?;
        }
        spi::command(&format!("ALTER EXTENSION refold ADD SCHEMA {schema}"))
    })?;
    Ok(())
}

/// Removes a projection's shadow, and the storage that it has by then; nothing where there is none.
pub fn remove(catalog: &Catalog, projection: i32) -> Result<()> {
    const SQL: &str = "SELECT format('%s %s', CASE d.classid WHEN 'pg_class'::regclass THEN 'TABLE' ELSE 'SCHEMA' END, \
          m.name) \
        FROM pg_namespace AS n \
        CROSS JOIN LATERAL (SELECT 'pg_namespace'::regclass, n.oid, format('%I', n.nspname) \
          UNION ALL SELECT 'pg_class'::regclass, c.oid, format('%I.%I', n.nspname, c.relname) FROM pg_class AS c \
            WHERE c.relnamespace = n.oid AND c.relkind = 'r') AS m (class, oid, name) \
        JOIN pg_depend AS d ON d.classid = m.class AND d.objid = m.oid AND d.deptype = 'e' \
        WHERE n.nspname = $1";
    let schema = format!("refold_shadow_{projection}");
    let members: Vec<String> = identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[spi::arg(schema.as_str())], spi::Snapshot::Latest, |rows| {
            (0..rows.len()).map(|row| rows.need(row, 0)).collect()
        })
    })?;
    identity::as_refold_quiet(catalog.owner, || {
        for member in &members {
            spi::command(&format!("ALTER EXTENSION refold DROP {member}"))?;
        }
        spi::command(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE"))
    })?;
    Ok(())
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

/// A hash of the live tables' definitions: what must be the same at the start of a rebuild and at its swap.
pub fn fingerprint(catalog: &Catalog, projection: &Projection) -> Result<String> {
    projection
        .tables
        .iter()
        .map(|&table| definition::fingerprint(catalog, table).map(|Fingerprint { whole, .. }| whole))
        .collect::<Result<Vec<_>>>()
        .map(|hashes| hashes.join(" "))
}

/// One step of a shadow's life, for tests: `create`, `swap`, `analyze` or `drop`.
pub fn step(catalog: &Catalog, name: &str, step: &str) -> Result<()> {
    let projection = super::lock_with_tables(catalog, name)?;
    projection.require_owner()?;
    let missing = || Error::wrong_state(format!("projection \"{name}\" has no shadow"));
    let open = || Shadow::open(catalog, &projection)?.ok_or_else(missing);
    match step {
        "create" => Shadow::create(catalog, &projection).map(drop),
        "analyze" => {
            let shadow = open()?;
            identity::as_owner(projection.owner, &projection.settings, || shadow.to.analyze())
        }
        "swap" => {
            let fingerprint = fingerprint(catalog, &projection)?;
            let shadow = open()?;
            let mut tables = [projection.tables.as_slice(), &shadow.tables].concat();
            tables.sort_unstable_by_key(|table| table.to_u32());
            tables.extend(parts(catalog, &tables)?);
            tables.iter().for_each(|&table| locks::lock_relation(table, locks::Mode::AccessExclusive));
            shadow.swap(catalog, &projection, &fingerprint)
        }
        "drop" => {
            Shadow::find(catalog, &projection)?.ok_or_else(missing)?;
            remove(catalog, projection.id)
        }
        _ => Err(Error::bad_value(format!("unknown step \"{step}\""))),
    }
}
