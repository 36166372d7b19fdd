//! Rows of the log, written without a statement.

use super::catalog::Catalog;
use super::event_tuple::Event;
use super::{shim, spi};
use crate::error::Result;
use pgrx::pg_sys;

/// Inserts the rows and returns true; or nothing and false, where only the statement does all that the table asks for.
/// Fires no trigger: those that are known are the caller's work. Called as the log's owner.
pub fn insert<'a>(catalog: &Catalog, rows: impl Iterator<Item = &'a Event>) -> Result<bool> {
    let columns = rows.flat_map(|row| row.columns());
    let Some(values) = columns.collect::<Option<Vec<pg_sys::Datum>>>() else { return Ok(false) };
    let count = (values.len() / super::event_tuple::COLUMN_TYPES.len()) as i32;
    let mut inserted = false;
    // SAFETY: four triggers, and as many values as `count` rows have columns, of the columns' types, which the shim compares
    // with the table's; all pointers outlive the call.
    spi::raised(unsafe {
        shim::refold_insert_events(
            catalog.event,
            catalog.insert_triggers.as_ptr(),
            count,
            values.as_ptr(),
            &raw mut inserted,
        )
    })?;
    Ok(inserted)
}
