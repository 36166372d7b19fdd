//! Memory that is given back before the transaction ends.

use crate::error::Result;
use pgrx::pg_sys;
use std::cell::Cell;

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

thread_local! {
    static KEPT: Cell<pg_sys::MemoryContext> = const { Cell::new(std::ptr::null_mut()) };
}

/// Runs `body` in memory that lasts until the next call, whatever the caller's memory: what it returns may lie there.
pub fn until_next<R>(body: impl FnOnce() -> Result<R>) -> Result<R> {
    // SAFETY: made once, below memory that lasts as long as the backend; nobody uses what the last call has left. An error
    // that lies there has been reported when the next call comes.
    unsafe {
        if KEPT.get().is_null() {
            KEPT.set(pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"refold, one row".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            ));
        }
        pg_sys::MemoryContextReset(KEPT.get());
        let caller = pg_sys::MemoryContextSwitchTo(KEPT.get());
        let result = body()?;
        pg_sys::MemoryContextSwitchTo(caller);
        Ok(result)
    }
}
