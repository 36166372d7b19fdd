//! Memory that is given back before the transaction ends.

use crate::error::Result;
use pgrx::pg_sys;

/// Runs `body` in memory of its own and frees that after. What it returns must own what it holds. On an error the
/// transaction's abort frees it, for the error itself may lie there.
pub fn scratch<R>(body: impl FnOnce() -> Result<R>) -> Result<R> {
    // SAFETY: a child of the current context, which outlives it; switched back before it is deleted.
    unsafe {
        let caller = pg_sys::CurrentMemoryContext;
        let own = pg_sys::AllocSetContextCreateInternal(
            caller,
            c"refold".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        pg_sys::MemoryContextSwitchTo(own);
        let result = body()?;
        pg_sys::MemoryContextSwitchTo(caller);
        pg_sys::MemoryContextDelete(own);
        Ok(result)
    }
}
