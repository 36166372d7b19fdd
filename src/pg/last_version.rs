//! The version that a stream is at: one step down the log's index, without a statement around it, from where the backend
//! saw the stream last.

use super::shim;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;

/// Whose view of the log counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The newest, whatever the isolation level.
    Latest,
    /// The transaction's own, where it keeps one snapshot.
    ByTransaction,
}

/// How many streams are remembered.
const MOST: usize = 4096;
/// Of a stream with fewer events the last is found as fast without.
const MANY_EVENTS: i64 = 8;

thread_local! {
    /// By the streams' hashes, versions that they were at: where the next search begins. None need be right: a transaction
    /// is rolled back, two streams have one hash.
    static KNOWN: RefCell<HashMap<u64, i64>> = RefCell::default();
}

/// The largest `stream_version` in the stream, which has this hash; 0 where there is none. XX001 if the log has lost its
/// index.
pub fn last_version(log: pg_sys::Oid, hash: u64, stream_id: pg_sys::Datum, seen: Seen) -> i64 {
    let at_least = KNOWN.with_borrow(|known| known.get(&hash).copied().unwrap_or(i64::MIN));
    // SAFETY: the OID is the log's, whose definition is fixed by the extension; the datum is a text. Errors are guarded,
    // and what is open then is closed by the abort.
    let version = unsafe { shim::refold_last_version(log, stream_id, at_least, seen == Seen::Latest) };
    if version >= MANY_EVENTS {
        KNOWN.with_borrow_mut(|known| {
            if known.len() >= MOST && !known.contains_key(&hash) {
                known.clear();
            }
            known.insert(hash, version);
        });
    } else if at_least > i64::MIN {
        KNOWN.with_borrow_mut(|known| known.remove(&hash));
    }
    version
}
