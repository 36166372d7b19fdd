//! Snapshots and isolation levels.

use pgrx::pg_sys;

/// Whether the transaction keeps one snapshot for all its commands (REPEATABLE READ, SERIALIZABLE).
pub fn keeps_one_snapshot() -> bool {
    // SAFETY: a plain variable of the backend; the same test as the macro IsolationUsesXactSnapshot.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// A registered snapshot: what it sees stays the same while it lives.
pub struct Kept(pg_sys::Snapshot);

impl Kept {
    /// The transaction's own snapshot if it keeps one, else the newest.
    pub fn take() -> Self {
        // SAFETY: inside a transaction; RegisterSnapshot copies the static snapshot it is given.
        unsafe {
            let snapshot = if keeps_one_snapshot() {
                pg_sys::GetTransactionSnapshot()
            } else {
                pg_sys::GetLatestSnapshot()
            };
            Kept(pg_sys::RegisterSnapshot(snapshot))
        }
    }

    pub fn as_ptr(&self) -> pg_sys::Snapshot {
        self.0
    }

    /// Lets the snapshot go. On an error the transaction's abort does.
    pub fn release(self) {
        // SAFETY: registered by `take` and not yet released: self is consumed.
        unsafe { pg_sys::UnregisterSnapshot(self.0) }
    }
}

/// Whether the server replays another's log.
pub fn in_recovery() -> bool {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::RecoveryInProgress() }
}
