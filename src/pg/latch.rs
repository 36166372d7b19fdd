//! Sleeping.

use pgrx::pg_sys;

/// Sleeps, and ends early with an error if the statement is cancelled or the session ended.
pub fn sleep(milliseconds: i64) {
    // SAFETY: waits for this process's own latch; the postmaster's death ends the process.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
            milliseconds,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}
