//! Processes: this backend, and those of other transactions.

use super::shim;
use pgrx::pg_sys;

/// The process id, as pg_stat_activity shows it.
pub fn id() -> i32 {
    // SAFETY: a plain variable of the backend.
    unsafe { pg_sys::MyProcPid }
}

/// Whether this process applies what logical replication brings.
pub fn is_logical_worker() -> bool {
    // SAFETY: reads a variable of the process.
    unsafe { pg_sys::IsLogicalWorker() }
}

/// Whether others apply large transactions of the same subscription before they end.
pub fn applies_in_parallel() -> bool {
    // SAFETY: reads variables of the process.
    unsafe { shim::refold_applies_in_parallel() }
}

/// Whether this process is a parallel worker, or waits for some.
pub fn is_in_parallel_mode() -> bool {
    // SAFETY: inside a transaction.
    unsafe { shim::IsInParallelMode() }
}

/// When this transaction began: no other one of this process did then.
pub fn transaction_start() -> i64 {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}

/// Ends the statement if it is cancelled, the session if it is to end. For loops that call PostgreSQL's executor too
/// seldom, or not at all: it checks by itself.
pub fn check_interrupts() {
    pgrx::check_for_interrupts!();
}

#[cfg(any(feature = "pg15", feature = "pg16"))]
fn number(transaction: &pg_sys::VirtualTransactionId) -> i32 {
    transaction.backendId
}

#[cfg(any(feature = "pg17", feature = "pg18"))]
fn number(transaction: &pg_sys::VirtualTransactionId) -> i32 {
    transaction.procNumber
}

/// Whether two are one transaction.
pub fn same(left: &pg_sys::VirtualTransactionId, right: &pg_sys::VirtualTransactionId) -> bool {
    number(left) == number(right) && left.localTransactionId == right.localTransactionId
}

/// The process of a transaction; `None` if it is prepared or has ended.
pub fn of_transaction(transaction: &pg_sys::VirtualTransactionId) -> Option<i32> {
    // SAFETY: reads shared memory.
    let pid = unsafe { shim::refold_pid_of(number(transaction)) };
    (pid != 0).then_some(pid)
}
