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

/// From now on the statement is not cancelled: [`take_cancel`] tells whether it should be. An error ends this, and so do
/// [`release_cancel`] and [`give_back_cancel`].
pub fn hold_cancel() {
    // SAFETY: a counter of this process, which signal handlers only read.
    unsafe {
        let count = &raw mut pg_sys::QueryCancelHoldoffCount;
        count.write_volatile(count.read_volatile() + 1);
    }
}

/// Ends what [`hold_cancel`] has begun.
pub fn release_cancel() {
    // SAFETY: as in `hold_cancel`.
    unsafe {
        let count = &raw mut pg_sys::QueryCancelHoldoffCount;
        count.write_volatile(count.read_volatile().saturating_sub(1));
    }
}

/// Whether the statement is to be cancelled; if so, it is not until [`give_back_cancel`].
pub fn take_cancel() -> bool {
    // SAFETY: a flag that a signal handler of this process sets.
    unsafe {
        let flag = &raw mut pg_sys::QueryCancelPending;
        let pending = flag.read_volatile() != 0;
        flag.write_volatile(0);
        pending
    }
}

/// The statement is cancelled at the next opportunity.
pub fn give_back_cancel() {
    release_cancel();
    // SAFETY: the flags that the signal handler sets.
    unsafe {
        (&raw mut pg_sys::QueryCancelPending).write_volatile(1);
        (&raw mut pg_sys::InterruptPending).write_volatile(1);
    }
}
