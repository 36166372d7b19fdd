//! Attempts that may fail without failing the transaction.

use super::{shim, spi};
use crate::error::{Error, Result};
use pgrx::pg_sys;

/// Runs `body` in a subtransaction; if it returns an error, undoes what it did and returns the error, which stays valid.
/// The outer error is one of the subtransaction itself. A Rust panic (an error that PostgreSQL raised in refold's own
/// calls) is not caught: it ends the whole transaction.
pub fn attempt<R>(body: impl FnOnce() -> Result<R>) -> Result<std::result::Result<R, Error>> {
    // SAFETY: variables of the backend.
    let (owner, memory) = unsafe { (pg_sys::CurrentResourceOwner, pg_sys::CurrentMemoryContext) };
    // SAFETY: inside a transaction; the shim raises nothing, and leaves the caller's memory current.
    spi::raised(unsafe { shim::refold_begin_subtransaction() })?;
    let result = body();
    // SAFETY: the body may have left other memory current; the caller's outlives the subtransaction.
    unsafe { pg_sys::MemoryContextSwitchTo(memory) };
    // SAFETY: the subtransaction begun above is the innermost: what a failed body left open its rollback closes.
    spi::raised(unsafe { shim::refold_end_subtransaction(result.is_ok(), owner) })?;
    Ok(result)
}
