//! The counter that tells a cache it is old (I3, I4).
//!
//! Each change of a projection's state sends a relcache invalidation of the gate, and each change of a live table's
//! definition one of that table. A reader compares the counter before and after it reads.

use pgrx::pg_sys;
use std::cell::{Cell, RefCell};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static WATCHED: RefCell<Vec<pg_sys::Oid>> = const { RefCell::new(Vec::new()) };
}

/// How many invalidations of watched relations this backend has seen.
pub fn count() -> u64 {
    COUNT.get()
}

/// The relations whose invalidation counts; none watched means that all count.
pub fn watch(relations: Vec<pg_sys::Oid>) {
    WATCHED.set(relations);
}

/// Tells every backend, at this transaction's commit, that the relation has changed.
pub fn send(relation: pg_sys::Oid) {
    // SAFETY: inside a transaction; the relation exists.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) }
}

unsafe extern "C-unwind" fn on_relcache(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    let counts = relation == pg_sys::InvalidOid
        || WATCHED
            .try_with(|watched| match watched.try_borrow() {
                Ok(watched) => watched.is_empty() || watched.contains(&relation),
                Err(_) => true,
            })
            .unwrap_or(true);
    if counts {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    }
}

/// Registers the callback; called once, when the library is loaded.
pub fn register() {
    // SAFETY: the callback raises nothing and lives as long as the backend.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(on_relcache), pg_sys::Datum::from(0)) }
}
