//! Sleeping.

use super::snapshot;
use pgrx::pg_sys;

/// Sleeps, and ends early with an error if the statement is cancelled or the session ended.
pub fn sleep(milliseconds: i64) {
    snapshot::forget_catalog();
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

/// From now on a cancelled statement goes on, until [`release_cancel`]; the end of the session does not wait. An error
/// releases it too.
pub fn hold_cancel() {
    // SAFETY: a counter of this process.
    unsafe { pg_sys::QueryCancelHoldoffCount += 1 };
}

/// A cancel that came meanwhile takes effect at the next opportunity.
pub fn release_cancel() {
    // SAFETY: counted up by `hold_cancel`.
    unsafe { pg_sys::QueryCancelHoldoffCount -= 1 };
}

/// Whether the statement is to be cancelled; if so, it is not, nor held, until [`give_back_cancel`]: while a cancel is held,
/// lock_timeout does not work either.
pub fn take_cancel() -> bool {
    // SAFETY: a flag that a signal handler of this process sets.
    let flag = &raw mut pg_sys::QueryCancelPending;
    // SAFETY: as said.
    if unsafe { flag.read_volatile() } == 0 {
        return false;
    }
    // SAFETY: as said.
    unsafe { flag.write_volatile(0) };
    release_cancel();
    true
}

/// The statement is cancelled at the next opportunity.
pub fn give_back_cancel() {
    // SAFETY: the flags that the signal handler sets.
    unsafe {
        (&raw mut pg_sys::QueryCancelPending).write_volatile(1);
        (&raw mut pg_sys::InterruptPending).write_volatile(1);
    }
}
