//! Attempts that may fail without failing the transaction.

use super::{shim, spi};
use crate::error::{Error, ForeignError, Result};
use pgrx::pg_sys;

/// Runs `body` in a subtransaction; if it returns an error, undoes what it did and returns the error, which stays valid.
/// The outer error is one of the subtransaction itself. A Rust panic (an error that PostgreSQL raised in refold's own
/// calls) goes on, but leaves no subtransaction behind: whoever catches it rolls back one of its own.
pub fn attempt<R>(body: impl FnOnce() -> Result<R>) -> Result<std::result::Result<R, Error>> {
    // SAFETY: variables of the backend.
    let (owner, memory) = unsafe { (pg_sys::CurrentResourceOwner, pg_sys::CurrentMemoryContext) };
    // SAFETY: inside a transaction; the shim raises nothing, and leaves the caller's memory current.
    spi::raised(unsafe { shim::refold_begin_subtransaction() })?;
    let mut result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    // SAFETY: the body may have left other memory current; the caller's outlives the subtransaction.
    unsafe { pg_sys::MemoryContextSwitchTo(memory) };
    if let Ok(Err(Error::Foreign(ForeignError(error)))) = &mut result {
        // SAFETY: caught whole, in memory of SPI's that the rollback below frees; the copy lies in the caller's.
        *error = unsafe { shim::refold_copy_error(*error) };
    }
    // The subtransaction begun above is the innermost: what a failed body left open its rollback closes.
    let released = matches!(result, Ok(Ok(_)));
    // SAFETY: as said.
    spi::raised(unsafe { shim::refold_end_subtransaction(released, owner) })?;
    match result {
        Ok(result) => Ok(result),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
