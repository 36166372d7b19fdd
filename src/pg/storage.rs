//! The storage of tables: heap, toast table and indexes.

use super::shim;
use pgrx::pg_sys;

/// Exchanges the storage of two tables of the same definition and owner, in a time that does not depend on their rows.
/// An abort undoes it; called again, it swaps back.
///
/// The caller holds AccessExclusiveLock on both, and best on their indexes and toast tables, which are waited for
/// otherwise. What is not storage it has compared: checks, generated columns and the like. And every living snapshot is
/// newer than the shadow's rows: they are not made to look older than they are.
pub fn swap(live: pg_sys::Oid, shadow: pg_sys::Oid) {
    // SAFETY: inside a transaction; the function checks its locks and that both tables are at rest in this session.
    // Errors are guarded, and end the (sub)transaction, which undoes the changes of the catalogs.
    unsafe { shim::refold_swap_storage(live, shadow) }
}
