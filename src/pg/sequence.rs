//! Drawing positions.

use super::shim;
use pgrx::pg_sys;

/// Draws the next value. Takes RowExclusiveLock on the sequence until the transaction's end, past ROLLBACK TO
/// SAVEPOINT: Lemma B waits for that lock.
pub fn draw(sequence: pg_sys::Oid) -> i64 {
    // SAFETY: the OID is a sequence's; errors are raised through pgrx's guard. No permission check: clients draw only
    // through append_event.
    unsafe { shim::nextval_internal(sequence, false) }
}

/// Gives the transaction its xid. An appender has one before it draws, so that `horizon` bounds it.
pub fn assign_xid() {
    // SAFETY: inside a transaction.
    unsafe { pg_sys::GetTopTransactionId() };
}

/// The next xid to be given out: whoever drew an earlier position has a smaller one.
pub fn next_xid() -> u64 {
    // SAFETY: reads shared memory under its own lock.
    unsafe { pg_sys::ReadNextFullTransactionId().value }
}

/// This moment, as a `timestamptz`.
pub fn now() -> pg_sys::Datum {
    // SAFETY: reads the clock.
    pg_sys::Datum::from(unsafe { pg_sys::GetCurrentTimestamp() })
}
