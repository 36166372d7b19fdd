//! This backend.

use pgrx::pg_sys;

/// The process id, as pg_stat_activity shows it.
pub fn id() -> i32 {
    // SAFETY: a plain variable of the backend.
    unsafe { pg_sys::MyProcPid }
}

/// Ends the statement if it is cancelled, the session if it is to end. For loops that call PostgreSQL's executor too
/// seldom, or not at all: it checks by itself.
pub fn check_interrupts() {
    pgrx::check_for_interrupts!();
}
