//! Making the live tables equal to the copies, by ordinary statements that write the rows that differ: every older
//! snapshot goes on seeing the old model, and whatever hangs on the live tables stays.
//!
//! Appends wait meanwhile, so the tables are joined no more often than it takes: once, where no row has gone.

use super::copy::Copy;
use super::destination::Destination;
use crate::error::Result;
use crate::pg::catalog::Catalog;
use crate::pg::{identity, spi};
use crate::projection::registry::Projection;
use crate::projection::table::Table;

/// How many live rows a merge has changed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rows {
    pub inserted: i64,
    pub updated: i64,
    pub deleted: i64,
}

/// Whether the rows `l` and `s` differ in a stored column, by their images.
pub fn differ(table: &Table) -> String {
    let row = |alias: &str| table.list(|name| format!("{alias}.{name}"));
    format!("ROW({})::record OPERATOR(pg_catalog.*<>) ROW({})::record", row("l"), row("s"))
}

/// Whether the rows `l` and `s` have the same key.
pub fn same_key(table: &Table) -> String {
    table.on_key(|_, column| format!("l.{name} {} s.{name}", column.equals, name = column.name))
}

/// Merges each copy into its live table; the caller holds ExclusiveLock on the live tables and the gate closed. Tables
/// are given parents first, as foreign keys among them want it: rows come in that order, are updated, and go in reverse.
pub fn merge(catalog: &Catalog, projection: &Projection, copy: &Copy) -> Result<Rows> {
    let mut rows = Rows::default();
    let tables = copy
        .to
        .tables
        .iter()
        .map(|table| Ok((table, may_update(catalog, table)?)))
        .collect::<Result<Vec<_>>>()?;
    projection.as_owner(|| {
        for (table, _) in tables.iter().rev().filter(|(_, in_place)| !in_place) {
            rows.deleted += run(&delete(copy, table, false))?;
        }
        let mut upserted = Vec::new();
        for (table, in_place) in &tables {
            if *in_place {
                let before = count(&table.qualified)?;
                upserted.push((table, before, run(&upsert(copy, table))?));
            } else {
                rows.inserted += run(&insert(copy, table))?;
            }
        }
        for (table, before, written) in upserted.into_iter().rev() {
            let after = count(&table.qualified)?;
            let inserted = (after - before).clamp(0, written);
            rows.inserted += inserted;
            rows.updated += written - inserted;
            // Each row of the copy has its own counterpart by now, and the lock keeps others from writing (I3): where
            // both have as many rows, no live row is without one.
            if after != count(&copy.to.of(table))? {
                rows.deleted += run(&delete(copy, table, true))?;
            }
        }
        Ok(rows)
    })
}

/// Merges the copy of one row, whose key the literals are.
pub fn merge_key(projection: &Projection, copy: &Copy, literals: &[String]) -> Result<Rows> {
    let mut rows = Rows::default();
    projection.as_owner(|| {
        for table in &copy.to.tables {
            let this =
                table.on_key(|n, column| format!("l.{} {} {}", column.name, column.equals, literals[n]));
            rows.deleted += run(&format!("{} AND {this}", delete(copy, table, true)))?;
            rows.updated += run(&update(copy, table))?;
            rows.inserted += run(&insert(copy, table))?;
        }
        Ok(rows)
    })
}

fn run(sql: &str) -> Result<i64> {
    spi::command(sql).map(|processed| processed as i64)
}

/// How many rows a table has; its name is quoted.
fn count(table: &str) -> Result<i64> {
    let sql = format!("SELECT pg_catalog.count(*) FROM ONLY {table}");
    spi::query_once(&sql, &[], spi::Snapshot::Command, |rows| rows.need(0, 0))
}

/// Rows without a counterpart; with secondary unique keys also the rows that differ, for an UPDATE that swaps two
/// unique values would fail.
fn delete(copy: &Copy, table: &Table, in_place: bool) -> String {
    let counterpart = if in_place { String::new() } else { format!(" AND NOT ({})", differ(table)) };
    format!(
        "DELETE FROM ONLY {live} AS l WHERE NOT EXISTS (SELECT FROM {copy} AS s WHERE {same_key}{counterpart})",
        live = table.qualified,
        copy = copy.to.of(table),
        same_key = same_key(table),
    )
}

/// [`update`] and [`insert`] in one pass.
fn upsert(copy: &Copy, table: &Table) -> String {
    format!(
        "MERGE INTO ONLY {live} AS l USING {copy} AS s ON {same_key} \
         WHEN MATCHED AND {differ} THEN UPDATE SET {assignments} \
         WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})",
        live = table.qualified,
        copy = copy.to.of(table),
        same_key = same_key(table),
        differ = differ(table),
        assignments = table.assign(|name| format!("s.{name}")),
        columns = table.list(str::to_owned),
        values = table.list(|name| format!("s.{name}")),
    )
}

fn update(copy: &Copy, table: &Table) -> String {
    format!(
        "UPDATE ONLY {live} AS l SET {assignments} FROM {copy} AS s WHERE {same_key} AND {differ}",
        live = table.qualified,
        assignments = table.assign(|name| format!("s.{name}")),
        copy = copy.to.of(table),
        same_key = same_key(table),
        differ = differ(table),
    )
}

fn insert(copy: &Copy, table: &Table) -> String {
    format!(
        "INSERT INTO {live} ({columns}) SELECT {values} FROM {copy} AS s \
         WHERE NOT EXISTS (SELECT FROM ONLY {live} AS l WHERE {same_key})",
        live = table.qualified,
        columns = table.list(str::to_owned),
        values = table.list(|name| format!("s.{name}")),
        copy = copy.to.of(table),
        same_key = same_key(table),
    )
}

/// Whether rows of all these tables can be written in any order.
pub fn may_update_all(catalog: &Catalog, to: &Destination) -> Result<bool> {
    for table in &to.tables {
        if !may_update(catalog, table)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether differing rows can be updated where they are: there is no second unique key.
fn may_update(catalog: &Catalog, table: &Table) -> Result<bool> {
    const SQL: &str = "SELECT NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = $1 AND NOT i.indisprimary \
          AND (i.indisunique OR i.indisexclusion))";
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[spi::arg(table.relation)], spi::Snapshot::Latest, |rows| rows.need(0, 0))
    })
}
