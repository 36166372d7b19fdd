//! Folding one row anew, in the caller's transaction: exact beside appends, which wait only if they feed that row.

use super::copy::Copy;
use super::merge;
use super::replay::Replay;
use super::{Report, lock_with_tables};
use crate::error::{Error, Result};
use crate::log::append::lock_stream;
use crate::log::watermark;
use crate::pg::catalog::{self, Catalog};
use crate::pg::progress::{self, Progress};
use crate::pg::{locks, spi, types};
use crate::projection::check::{self, Checked};
use crate::projection::keys::{Key, KeyLocks};
use crate::projection::registry::{self, Kind, Mode, Projection};
use crate::projection::table::Table;
use pgrx::pg_sys::{self, Datum};
use std::time::{Duration, Instant};

/// Folds the row of a key anew; `key` is jsonb, an object of the primary key's columns as `verify_projection` shows it.
pub fn rebuild_key(name: &str, key: Datum) -> Result<Report> {
    let started = Instant::now();
    // I1, as an append: the projection's state does not change until the transaction ends.
    let catalog = catalog::get_under_gate()?;
    let projection = lock_with_tables(&catalog, name)?;
    require_kept_up(&projection)?;
    let checked = check::rebuilt_projection(&catalog, projection, None)?;
    require_fresh(&catalog, &checked)?;
    locks::lock_relation(checked.projection.tables[0], locks::Mode::RowExclusive);
    let table = Table::read(&catalog, checked.projection.tables[0])?;
    let row = parse(&checked, &table, key)?;

    // I6: whoever has drawn a position for this row holds this lock to its end. A snapshot taken now sees all of them.
    lock(&catalog, &checked.projection, &row)?;
    let progress = Progress::start(catalog.gate, checked.projection.id.into(), progress::Kind::Rebuild);
    let copy = Copy::create(&catalog, &checked.projection)?;
    let mut replay = Replay::new(&catalog, &checked, &copy.to, progress, spi::Snapshot::Command);
    replay.key(watermark::last_drawn(&catalog)?, &row.literals)?;
    let rows = merge::merge_key(&checked.projection, &copy, &row.literals)?;
    copy.drop(&catalog)?;
    let events = replay.events();
    replay.finish();
    Ok(Report {
        projection: checked.projection.name.clone(),
        generation: checked.projection.generation,
        events_replayed: events,
        events_under_gate: 0,
        rows,
        gate_attempts: 0,
        gate_held: Duration::ZERO,
        duration: started.elapsed(),
    })
}

fn require_kept_up(projection: &Projection) -> Result<()> {
    if projection.kind != Kind::Fold {
        return Err(Error::wrong_state(format!("projection \"{}\" is no fold", projection.name))
            .detail("Only a fold's rows can be built one by one: each is a function of its own events.")
            .hint("Leave key out."));
    }
    if projection.mode == Mode::Skipping {
        return Err(Error::wrong_state(format!(
            "the model of projection \"{}\" is incomplete",
            projection.name
        ))
        .hint("Rebuild the whole of it."));
    }
    Ok(())
}

/// 55000 where the handler is another than the one that has made the other rows.
fn require_fresh(catalog: &Catalog, checked: &Checked) -> Result<()> {
    if registry::fingerprint(catalog, checked.projection.id)? == checked.fingerprint() {
        return Ok(());
    }
    Err(Error::wrong_state(format!(
        "the handler or key of projection \"{}\" was replaced since its model was built",
        checked.projection.name
    ))
    .hint("Rebuild the whole of it."))
}

/// A row's key: for its lock, and as literals for statements.
struct Row {
    key: Key,
    /// The first column as text: the stream, where the projection has no key function.
    stream: String,
    literals: Vec<String>,
}

/// Reads the key as its owner would: the columns' types may be anybody's.
fn parse(checked: &Checked, table: &Table, key: Datum) -> Result<Row> {
    let names: Vec<_> = table.key.iter().map(|column| format!("r.{}", column.name)).collect();
    let literals = table.key.iter().map(|column| {
        let literal = format!("pg_catalog.quote_literal(r.{}::pg_catalog.text)", column.name);
        format!("{literal} OPERATOR(pg_catalog.||) {}", spi::literal(&cast(column.value_type)))
    });
    let sql = format!(
        "SELECT pg_catalog.hash_record_extended(ROW({names}), 0), {names}, {literals}, \
           pg_catalog.jsonb_typeof($1) OPERATOR(pg_catalog.=) 'object' AND \
           (SELECT pg_catalog.count(*) FROM pg_catalog.jsonb_object_keys($1)) OPERATOR(pg_catalog.=) {count}, \
           {first}::pg_catalog.text \
         FROM pg_catalog.jsonb_populate_record(NULL::{table}, $1) AS r",
        names = names.join(", "),
        literals = literals.collect::<Vec<_>>().join(", "),
        count = names.len(),
        first = names[0],
        table = table.qualified,
    );
    let bad = || {
        Error::bad_value(format!("key must be an object of the primary key's columns of {}", table.qualified))
            .hint("Take it from the column key of refold.verify_projection.")
    };
    let count = table.key.len();
    checked.projection.as_owner(|| {
        let plan = spi::Plan::prepare(&sql, &[pg_sys::JSONBOID])?;
        spi::query(&plan, &[Some(key)], spi::Snapshot::Command, None, |rows| {
            let values: Option<Vec<_>> = (1..=count).map(|column| rows.datum(0, column)).collect();
            let literals: Option<Vec<_>> =
                (count + 1..=2 * count).map(|column| rows.get(0, column)).collect();
            if !rows.get::<bool>(0, 2 * count + 1).unwrap_or(false) {
                return Err(bad());
            }
            let (values, literals) = values.zip(literals).ok_or_else(bad)?;
            let hash: i64 = rows.need(0, 0)?;
            Ok(Row { key: Key::new(values, hash as u64), stream: rows.need(0, 2 * count + 2)?, literals })
        })
    })
}

fn cast(value_type: pg_sys::Oid) -> String {
    format!("::{}", types::qualified_name(value_type))
}

fn lock(catalog: &Catalog, projection: &Projection, row: &Row) -> Result<()> {
    if projection.key.is_none() && !projection.serial {
        lock_stream(&row.stream);
        return Ok(());
    }
    let mut locks = KeyLocks::default();
    locks.add(projection, Some(&[Some(row.key.clone())]));
    locks.take(catalog)
}
