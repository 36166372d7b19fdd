//! Snapshots and isolation levels.

use super::process;
use crate::error::{Error, Result};
use pgrx::{PgSqlErrorCode, pg_sys};

/// Whether the transaction keeps one snapshot for all its commands (REPEATABLE READ, SERIALIZABLE).
pub fn keeps_one_snapshot() -> bool {
    // SAFETY: a plain variable of the backend; the same test as the macro IsolationUsesXactSnapshot.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Lets the snapshot go that look-ups in the catalogs have left behind: a session that waits should not be waited for.
pub fn forget_catalog() {
    // SAFETY: scans that go on have registered their own; the next look-up takes a new one.
    unsafe { pg_sys::InvalidateCatalogSnapshot() };
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

/// 25006 in a read-only transaction, as every one on a standby is.
pub fn require_writable(what: &str) -> Result<()> {
    // SAFETY: a plain variable of the backend.
    if unsafe { pg_sys::XactReadOnly } {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION,
            format!("cannot {what} in a read-only transaction"),
        ));
    }
    Ok(())
}

/// Sessions that hold a snapshot taken before a certain moment.
pub struct Older {
    limit: pg_sys::TransactionId,
    holders: Vec<pg_sys::VirtualTransactionId>,
}

impl Older {
    /// Those of now; called in a transaction that holds no snapshot. As the last phase of CREATE INDEX CONCURRENTLY:
    /// whoever does not see a transaction that has committed has an xmin no later than that of a snapshot taken now.
    pub fn find() -> Self {
        // SAFETY: inside a transaction; the snapshot is released before others are looked at.
        let limit = unsafe {
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot());
            let limit = (*snapshot).xmin;
            pg_sys::UnregisterSnapshot(snapshot);
            limit
        };
        Self { limit, holders: holders(limit) }
    }

    /// Forgets those that hold none any more; returns whether there are others. Called as [`Older::find`] is.
    pub fn remain(&mut self) -> bool {
        let now = holders(self.limit);
        self.holders.retain(|holder| now.iter().any(|other| process::same(holder, other)));
        !self.holders.is_empty()
    }

    /// The processes of those that are left.
    pub fn pids(&self) -> Vec<i32> {
        self.holders.iter().filter_map(process::of_transaction).collect()
    }
}

/// Other sessions of this database whose oldest snapshot may not see what committed before `limit`; vacuum's read no
/// table of a user.
fn holders(limit: pg_sys::TransactionId) -> Vec<pg_sys::VirtualTransactionId> {
    let mut count = 0;
    let lazy = (pg_sys::PROC_IS_AUTOVACUUM | pg_sys::PROC_IN_VACUUM) as i32;
    // SAFETY: the array is palloc'd and has as many elements as said.
    unsafe {
        let found = pg_sys::GetCurrentVirtualXIDs(limit, true, false, lazy, &raw mut count);
        std::slice::from_raw_parts(found, count as usize).to_vec()
    }
}
