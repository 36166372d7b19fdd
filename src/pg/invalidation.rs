//! The counter that tells a cache it is old (I3, I4).
//!
//! Each change of a projection's state sends a relcache invalidation of the gate, each change of a live table's
//! definition one of that table, each change of a handler or of a schema's name one of its catalog's row. A reader
//! compares the counter before and after it reads. What a search_path means has a counter of its own.

use pgrx::pg_sys;
use std::cell::{Cell, RefCell};

/// What the registry's cache depends on besides the gate.
#[derive(Default)]
struct Watched {
    relations: Vec<pg_sys::Oid>,
    /// Hashes of functions, as the syscache has them.
    functions: Vec<u32>,
}

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static PATHS: Cell<u64> = const { Cell::new(0) };
    static GATE: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
    static WATCHED: RefCell<Option<Watched>> = const { RefCell::new(None) };
}

/// How many invalidations that count this backend has seen.
pub fn count() -> u64 {
    COUNT.get()
}

/// How many that may change what a search_path means, or `$user` may come to mean in it: of schemas, of roles and
/// their memberships, and of who may make schemas.
pub fn count_for_paths() -> u64 {
    PATHS.get()
}

/// The gate, whose invalidation always counts.
pub fn watch_gate(gate: pg_sys::Oid) {
    GATE.set(gate);
}

/// The relations and functions whose invalidation counts; before the first call all do. A list with a new member counts
/// as an invalidation: one of that member's own may have passed unseen.
pub fn watch(relations: Vec<pg_sys::Oid>, functions: &[pg_sys::Oid]) {
    // SAFETY: hashes an OID as the syscache of functions does.
    let hash = |function: &pg_sys::Oid| unsafe {
        let none = pg_sys::Datum::from(0);
        let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
        pg_sys::GetSysCacheHashValue(cache, (*function).into(), none, none, none)
    };
    let new = Watched { relations, functions: functions.iter().map(hash).collect() };
    let grown = WATCHED.with_borrow(|old| match old {
        None => false,
        Some(old) => {
            new.relations.iter().any(|relation| !old.relations.contains(relation))
                || new.functions.iter().any(|function| !old.functions.contains(function))
        }
    });
    WATCHED.set(Some(new));
    if grown {
        COUNT.set(COUNT.get() + 1);
    }
}

/// Tells every backend, at this transaction's commit, that the relation has changed.
pub fn send(relation: pg_sys::Oid) {
    // SAFETY: inside a transaction; the relation exists.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) }
}

/// Counts one if `counts` says so of what is watched, or if that cannot be told.
fn note(counts: impl FnOnce(&Watched) -> bool) {
    let counts = WATCHED.try_with(|watched| match watched.try_borrow().as_deref() {
        Ok(Some(watched)) => counts(watched),
        Ok(None) | Err(_) => true,
    });
    if counts.unwrap_or(true) {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    }
}

unsafe extern "C-unwind" fn on_relation(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    note(|watched| {
        relation == pg_sys::InvalidOid
            || GATE.try_with(Cell::get).is_ok_and(|gate| gate == relation)
            || watched.relations.contains(&relation)
    });
}

unsafe extern "C-unwind" fn on_function(_argument: pg_sys::Datum, _cache: i32, hash: u32) {
    note(|watched| hash == 0 || watched.functions.contains(&hash));
}

unsafe extern "C-unwind" fn on_schema(argument: pg_sys::Datum, cache: i32, hash: u32) {
    note(|_| true);
    // SAFETY: reads nothing that it is given.
    unsafe { on_role_or_database(argument, cache, hash) }
}

unsafe extern "C-unwind" fn on_role_or_database(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    let _ = PATHS.try_with(|count| count.set(count.get() + 1));
}

/// Registers the callbacks; called once, when the library is loaded.
pub fn register() {
    let none = pg_sys::Datum::from(0);
    // SAFETY: the callbacks raise nothing and live as long as the backend.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(on_relation), none);
        let register = |cache, callback| {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, callback, none);
        };
        register(pg_sys::SysCacheIdentifier::PROCOID, Some(on_function));
        register(pg_sys::SysCacheIdentifier::NAMESPACEOID, Some(on_schema));
        register(pg_sys::SysCacheIdentifier::AUTHOID, Some(on_role_or_database));
        register(pg_sys::SysCacheIdentifier::AUTHMEMROLEMEM, Some(on_role_or_database));
        register(pg_sys::SysCacheIdentifier::DATABASEOID, Some(on_role_or_database));
    }
}
