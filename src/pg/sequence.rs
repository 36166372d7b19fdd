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

/// A sequence's row, as PostgreSQL lays it out.
#[repr(C)]
struct SequenceRow {
    last_value: i64,
    log_cnt: i64,
    is_called: bool,
}

/// The value that was drawn last; one less than the first before that. Takes none of nextval's lock, but reads the
/// page under its own: a SELECT does not, and while nextval writes WAL it shows a value that is up to 32 too high.
pub fn last_drawn(sequence: pg_sys::Oid) -> i64 {
    // SAFETY: the OID is a sequence's: it has one page with one row, whose layout is above and without nulls. The page
    // is pinned and locked while it is read. Errors are guarded; an abort gives lock and pin back.
    let row = unsafe {
        let relation = pg_sys::relation_open(sequence, pg_sys::AccessShareLock as i32);
        let buffer = pg_sys::ReadBuffer(relation, 0);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let page = pg_sys::BufferGetPage(buffer);
        let tuple = pg_sys::PageGetItem(page, pg_sys::PageGetItemId(page, 1));
        let header = tuple.cast::<pg_sys::HeapTupleHeaderData>();
        let row = tuple.add(usize::from((*header).t_hoff)).cast::<SequenceRow>().read_unaligned();
        pg_sys::UnlockReleaseBuffer(buffer);
        pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
        row
    };
    if row.is_called { row.last_value } else { row.last_value - 1 }
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
    pg_sys::Datum::from(unsafe { shim::GetCurrentTimestamp() })
}
