//! The version that a stream is at: one step down the log's index, without a statement around it.

use super::shim;
use pgrx::pg_sys;

/// Whose view of the log counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The newest, whatever the isolation level.
    Latest,
    /// The transaction's own, where it keeps one snapshot.
    ByTransaction,
}

/// The largest `stream_version` in the stream, 0 where there is none. XX001 if the log has lost its index.
pub fn last_version(log: pg_sys::Oid, stream_id: pg_sys::Datum, seen: Seen) -> i64 {
    // SAFETY: the OID is the log's, whose definition is fixed by the extension; the datum is a text. Errors are guarded,
    // and what is open then is closed by the abort.
    unsafe { shim::refold_last_version(log, stream_id, seen == Seen::Latest) }
}
