//! Verifying: a rebuild that stops before the merge and reports the difference.
//!
//! Log and live tables are read on one snapshot, so nobody has to wait: what the snapshot sees of the log must fold to
//! what it sees of the model.

use super::copy::Copy;
use super::destination::Destination;
use super::lock_with_tables;
use super::merge::{differ, same_key};
use super::replay::Replay;
use crate::error::{Error, Result};
use crate::names::Position;
use crate::pg::call::RowSink;
use crate::pg::catalog::Catalog;
use crate::pg::progress::{Kind, Phase, Progress};
use crate::pg::waitpoint::{self, Waitpoint};
use crate::pg::{call, identity, process, snapshot, spi};
use crate::projection::check::{self, Checked};
use crate::projection::registry::{self, Projection};
use crate::projection::table::Table;
use pgrx::pg_sys;

/// Puts the rows in which the live model and a fresh fold differ into `sink`: table, key, live row, rebuilt row.
pub fn verify(catalog: &Catalog, name: &str, sink: &mut RowSink) -> Result<()> {
    // Under this lock no cut-over commits, so the snapshot taken after sees the model of the definition read here.
    let projection = lock_with_tables(catalog, name)?;
    // To verify is not to agree to run the handler as another owner.
    projection.require_owner()?;
    require_select(catalog, &projection)?;
    if snapshot::keeps_one_snapshot() {
        registry::require_visible(catalog, std::iter::once(&projection))?;
    }
    let checked = check::rebuilt_projection(catalog, projection, None)?;
    let live = Destination::live(catalog, &checked.projection)?;
    differences(catalog, &checked, &live, Kind::Verify, |row| sink.put(row))
}

/// Folds the log anew and gives `take` the rows in which what was built differs: table, key, built row, rebuilt row.
pub fn differences(
    catalog: &Catalog,
    checked: &Checked,
    built: &Destination,
    kind: Kind,
    mut take: impl FnMut(&[Option<pg_sys::Datum>]),
) -> Result<()> {
    let progress = Progress::start(catalog.gate, checked.projection.id.into(), kind);
    let snapshot = snapshot::Kept::take();
    let copy = Copy::create(catalog, &checked.projection)?;
    let mut replay =
        Replay::new(catalog, checked, &copy.to, progress, spi::Snapshot::Kept(snapshot.as_ptr()));
    replay.all(last_visible(catalog, &snapshot)?)?;
    waitpoint::reach(Waitpoint::VerifyReplayed);
    replay.progress.phase(Phase::Comparing);
    for table in &copy.to.tables {
        compare(&checked.projection, &copy, built, table, &snapshot, &mut take)?;
    }
    replay.finish();
    copy.drop(catalog)?;
    snapshot.release();
    Ok(())
}

/// 42501 unless the caller may read the tables: the result shows their rows.
fn require_select(catalog: &Catalog, projection: &Projection) -> Result<()> {
    const SQL: &str = "SELECT c.oid::regclass::text FROM pg_class AS c WHERE c.oid = ANY ($1) \
        AND (c.relrowsecurity OR NOT has_table_privilege($2, c.oid, 'SELECT')) LIMIT 1";
    if identity::has_rights_of(projection.owner) {
        return Ok(());
    }
    let args = [spi::arg(projection.tables.clone()), spi::arg(identity::current_user())];
    let hidden: Option<String> = identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &args, spi::Snapshot::Latest, |rows| Ok(rows.get(0, 0)))
    })?;
    match hidden {
        None => Ok(()),
        Some(table) => Err(Error::not_allowed(format!("permission denied for table {table}"))
            .detail("What differs would be shown: the rows of the projection's tables.")
            .hint("Use GRANT SELECT; a table with row-level security can be verified by its owner only.")),
    }
}

/// The last position that the snapshot sees, 0 if none.
fn last_visible(catalog: &Catalog, snapshot: &snapshot::Kept) -> Result<Position> {
    const SQL: &str = "SELECT coalesce(max(e.position), 0) FROM refold.event AS e";
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[], spi::Snapshot::Kept(snapshot.as_ptr()), |rows| rows.need(0, 0))
    })
}

fn compare(
    projection: &Projection,
    copy: &Copy,
    built: &Destination,
    table: &Table,
    snapshot: &snapshot::Kept,
    take: &mut impl FnMut(&[Option<pg_sys::Datum>]),
) -> Result<()> {
    let key: Vec<_> = table
        .key
        .iter()
        .map(|column| {
            format!(
                "{}, coalesce(l.{name}, s.{name})",
                spi::literal(&unquoted(&column.name)),
                name = column.name
            )
        })
        .collect();
    let first = &table.key[0].name;
    let sql = format!(
        "SELECT pg_catalog.jsonb_build_object({key}), CASE WHEN l.{first} IS NOT NULL THEN pg_catalog.to_jsonb(l.*) END, \
           CASE WHEN s.{first} IS NOT NULL THEN pg_catalog.to_jsonb(s.*) END \
         FROM (SELECT {columns} FROM ONLY {live} AS l) AS l FULL JOIN (SELECT {columns} FROM {copy} AS s) AS s \
           ON {same_key} \
         WHERE l.{first} IS NULL OR s.{first} IS NULL OR {differ}",
        key = key.join(", "),
        columns = table.list(str::to_owned),
        live = built.of(table),
        copy = copy.to.of(table),
        same_key = same_key(table),
        differ = differ(table),
    );
    projection.as_owner(|| {
        let plan = spi::Plan::prepare(&sql, &[])?;
        spi::query(&plan, &[], spi::Snapshot::Kept(snapshot.as_ptr()), None, |rows| {
            for row in 0..rows.len() {
                process::check_interrupts();
                take(&[
                    call::value(table.relation),
                    rows.datum(row, 0),
                    rows.datum(row, 1),
                    rows.datum(row, 2),
                ]);
            }
            Ok(())
        })
    })
}

/// An identifier as the catalog has it.
fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}
