//! Locks: on relations, and on refold's own keys.
//!
//! Whether a lock is held is asked of the lock manager each time: ROLLBACK TO SAVEPOINT gives back what was taken
//! since, so a flag would lie.

use super::{process, shim, snapshot, spi};
use crate::error::Result;
use pgrx::pg_sys;

/// Lock modes in PostgreSQL's words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    AccessShare = pg_sys::AccessShareLock as isize,
    RowExclusive = pg_sys::RowExclusiveLock as isize,
    ShareRowExclusive = pg_sys::ShareRowExclusiveLock as isize,
    Exclusive = pg_sys::ExclusiveLock as isize,
    AccessExclusive = pg_sys::AccessExclusiveLock as isize,
}

/// What a key lock is about; the number is the last field of the lock's tag, where pg_advisory_lock has 1 or 2.
#[derive(Clone, Copy)]
pub enum Domain {
    /// One stream's appends.
    Stream = 11,
    /// One key of one fold.
    FoldKey = 12,
    /// A rebuild, a creation or a removal of one projection.
    Rebuild = 13,
    /// The worker of one rebuild job.
    Job = 14,
    /// The worker of one part of a rebuild job.
    Part = 15,
}

/// Waits for a lock on a relation, to the end of the transaction.
pub fn lock_relation(relation: pg_sys::Oid, mode: Mode) {
    // SAFETY: inside a transaction; locking an OID needs no relation behind it. Invalidations are accepted after.
    unsafe { pg_sys::LockRelationOid(relation, mode as i32) }
}

/// Gives back what [`lock_relation`] has taken last.
pub fn unlock_relation(relation: pg_sys::Oid, mode: Mode) {
    // SAFETY: releases a lock of this transaction; a warning if there is none.
    unsafe { pg_sys::UnlockRelationOid(relation, mode as i32) }
}

/// A relation, the mode to lock it in, and how many milliseconds to wait for that.
pub type Wanted = (pg_sys::Oid, Mode, i32);

/// Takes all the locks in their order, to the end of the transaction, or none: false on a timeout.
pub fn lock_together(wanted: &[Wanted]) -> Result<bool> {
    let relations: Vec<_> = wanted.iter().map(|wanted| wanted.0).collect();
    let modes: Vec<_> = wanted.iter().map(|wanted| wanted.1 as pg_sys::LOCKMODE).collect();
    let timeouts: Vec<_> = wanted.iter().map(|wanted| wanted.2).collect();
    let mut granted = false;
    // SAFETY: three arrays of the same length that outlive the call; inside a transaction; the shim restores memory
    // context and resource owner.
    spi::raised(unsafe {
        shim::refold_lock_together(
            wanted.len() as i32,
            relations.as_ptr(),
            modes.as_ptr(),
            timeouts.as_ptr(),
            &raw mut granted,
        )
    })?;
    Ok(granted)
}

/// Whether this backend holds exactly this mode on the relation.
pub fn holds(relation: pg_sys::Oid, mode: Mode) -> bool {
    holds_mode(relation, mode as i32)
}

/// Whether this backend holds a mode stronger than RowExclusive on the relation.
pub fn holds_strong(relation: pg_sys::Oid) -> bool {
    let strong = pg_sys::ShareUpdateExclusiveLock as i32..=pg_sys::AccessExclusiveLock as i32;
    strong.into_iter().any(|mode| holds_mode(relation, mode))
}

fn holds_mode(relation: pg_sys::Oid, mode: i32) -> bool {
    holds_tag(&relation_tag(relation), mode)
}

fn holds_tag(tag: &pg_sys::LOCKTAG, mode: i32) -> bool {
    // SAFETY: looks into the backend's own lock table.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        return pg_sys::LockHeldByMe(tag, mode);
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        return pg_sys::LockHeldByMe(tag, mode, false);
    }
}

/// Waits until every transaction that now holds a lock on one of the relations that conflicts with `mode` has ended.
/// Nothing is requested, so nobody queues behind. Reports whom it waits for as progress.
pub fn wait_for_holders(relations: &[pg_sys::Oid], mode: Mode) {
    snapshot::forget_catalog();
    // SAFETY: the tags are palloc'd for a list that the call only reads; errors (cancel, lock_timeout) are guarded.
    unsafe {
        let mut tags: *mut pg_sys::List = std::ptr::null_mut();
        for &relation in relations {
            let tag = pg_sys::palloc(size_of::<pg_sys::LOCKTAG>()).cast::<pg_sys::LOCKTAG>();
            tag.write(relation_tag(relation));
            tags = pg_sys::lappend(tags, tag.cast());
        }
        pg_sys::WaitForLockersMultiple(tags, mode as i32, true);
        pg_sys::list_free_deep(tags);
    }
}

/// Transactions that held a lock at some moment, for who looks now and then whether they have ended.
pub struct Holders(Vec<pg_sys::VirtualTransactionId>);

impl Holders {
    /// Those that hold one on one of the relations that conflicts with `mode`, others than this.
    pub fn find(relations: &[pg_sys::Oid], mode: Mode) -> Self {
        let mut holders = Vec::new();
        for &relation in relations {
            let tag = relation_tag(relation);
            let mut count = 0;
            // SAFETY: the array is palloc'd and has as many elements as said.
            unsafe {
                let found = pg_sys::GetLockConflicts(&raw const tag, mode as i32, &raw mut count);
                holders.extend_from_slice(std::slice::from_raw_parts(found, count as usize));
                pg_sys::pfree(found.cast());
            }
        }
        Self(holders)
    }

    /// Forgets those that have ended; returns whether there are others.
    pub fn remain(&mut self) -> bool {
        // SAFETY: asks for a lock without waiting for it; inside a transaction.
        self.0.retain(|&transaction| !unsafe { pg_sys::VirtualXactLock(transaction, false) });
        !self.0.is_empty()
    }

    /// The processes of those that are left; a prepared transaction has none.
    pub fn pids(&self) -> Vec<i32> {
        self.0.iter().filter_map(process::of_transaction).collect()
    }
}

/// How many other transactions hold a lock on the relation that conflicts with `mode`.
pub fn count_holders(relation: pg_sys::Oid, mode: Mode) -> i32 {
    let tag = relation_tag(relation);
    let mut count = 0;
    // SAFETY: the result is palloc'd and only counted.
    unsafe {
        let conflicts = pg_sys::GetLockConflicts(&raw const tag, mode as i32, &raw mut count);
        pg_sys::pfree(conflicts.cast());
    }
    count
}

/// Waits for the exclusive lock on a key, to the end of the transaction.
pub fn lock_key(domain: Domain, key: u64) {
    if !try_lock_key(domain, key) {
        snapshot::forget_catalog();
        acquire_key(domain, key, false, false);
    }
}

/// Takes the exclusive lock on a key if it can be had at once.
pub fn try_lock_key(domain: Domain, key: u64) -> bool {
    acquire_key(domain, key, false, true)
}

/// As [`try_lock_key`], to the end of the session; once, however often it is asked for. User code can give it back:
/// `pg_advisory_unlock_all` does.
pub fn try_lock_key_for_session(domain: Domain, key: u64) -> bool {
    holds_tag(&key_tag(domain, key), pg_sys::ExclusiveLock as i32) || acquire_key(domain, key, true, true)
}

/// The process that holds the lock on a key.
pub fn key_holder(domain: Domain, key: u64) -> Result<Option<i32>> {
    const SQL: &str = "SELECT l.pid FROM pg_catalog.pg_locks AS l \
        WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.granted \
          AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database AS d \
            WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
          AND l.classid OPERATOR(pg_catalog.=) pg_catalog.oid($1) AND l.objid OPERATOR(pg_catalog.=) pg_catalog.oid($2) \
          AND l.objsubid OPERATOR(pg_catalog.=) $3";
    // As numbers: the datum of an Oid that is 0 would be NULL.
    let args = [spi::arg((key >> 32) as i64), spi::arg(key as u32 as i64), spi::arg(domain as i16)];
    spi::query_once(SQL, &args, spi::Snapshot::Latest, |rows| Ok(rows.get(0, 0)))
}

/// The other processes that hold a lock on the relation stronger than a reader's.
pub fn relation_holders(relation: pg_sys::Oid) -> Result<Vec<i32>> {
    const SQL: &str = "SELECT coalesce(pg_catalog.array_agg(DISTINCT l.pid), '{}') FROM pg_catalog.pg_locks AS l \
        WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.granted \
          AND l.relation OPERATOR(pg_catalog.=) $1 AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid \
            FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
          AND l.mode OPERATOR(pg_catalog.<>) 'AccessShareLock' \
          AND l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()";
    let args = [spi::arg(relation)];
    spi::query_once(SQL, &args, spi::Snapshot::Latest, |rows| Ok(rows.get(0, 0).unwrap_or_default()))
}

/// Gives back what [`try_lock_key_for_session`] has taken, if it is still held.
pub fn unlock_key_of_session(domain: Domain, key: u64) {
    let tag = key_tag(domain, key);
    if holds_tag(&tag, pg_sys::ExclusiveLock as i32) {
        // SAFETY: releases a lock of this session.
        unsafe { pg_sys::LockRelease(&raw const tag, pg_sys::ExclusiveLock as i32, true) };
    }
}

fn acquire_key(domain: Domain, key: u64, session: bool, at_once: bool) -> bool {
    let tag = key_tag(domain, key);
    let mode = pg_sys::ExclusiveLock as i32;
    // SAFETY: inside a transaction, with a well-formed tag; errors (deadlock, cancel, no shared memory) are guarded.
    let result = unsafe { pg_sys::LockAcquire(&raw const tag, mode, session, at_once) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

fn key_tag(domain: Domain, key: u64) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: a plain variable of the backend.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: (key >> 32) as u32,
        locktag_field3: key as u32,
        locktag_field4: domain as u16,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

/// A hash of bytes that is the same in every backend.
pub fn hash(bytes: &[u8], seed: u64) -> u64 {
    // SAFETY: reads the bytes.
    unsafe { shim::hash_bytes_extended(bytes.as_ptr(), bytes.len() as i32, seed) }
}

fn relation_tag(relation: pg_sys::Oid) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: a plain variable of the backend.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: relation.to_u32(),
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    }
}
