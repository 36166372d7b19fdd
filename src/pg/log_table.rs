//! Rows of the log, written without a statement.

use super::catalog::Catalog;
use super::event_tuple::{COLUMN_TYPES, Event};
use super::{shim, spi};
use crate::error::Result;

/// Inserts the rows and returns true; or nothing and false, where only the statement does all that the table asks for.
/// Fires no trigger: those that are known are the caller's work. Called as the log's owner.
pub fn insert<'a>(catalog: &Catalog, rows: impl ExactSizeIterator<Item = &'a Event>) -> Result<bool> {
    let count = rows.len();
    let mut values = Vec::with_capacity(count * COLUMN_TYPES.len());
    values.extend(rows.flat_map(|row| row.columns().into_iter().flatten()));
    if values.len() != count * COLUMN_TYPES.len() {
        return Ok(false);
    }
    let mut inserted = false;
    // SAFETY: four triggers, and as many values as `count` rows have columns, of the columns' types, which the shim compares
    // with the table's; all pointers outlive the call.
    spi::raised(unsafe {
        shim::refold_insert_events(
            catalog.event,
            catalog.insert_triggers.as_ptr(),
            count as i32,
            values.as_ptr(),
            &raw mut inserted,
        )
    })?;
    Ok(inserted)
}
