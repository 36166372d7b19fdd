//! Whether the session's search_path may stay where a projection's is asked for. To set it and put it back costs PostgreSQL
//! 15 a twentieth of an append: it goes through all settings, and looks up both paths' schemas anew.

use super::{invalidation, shim};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::{CStr, CString};

/// For how many pairs of paths it is remembered.
const MOST: usize = 16;

/// Whether one path stands for another to a role, while no schema, role, membership or database changes.
struct Known {
    invalidations: u64,
    role: pg_sys::Oid,
    session: CString,
    path: String,
    stands: bool,
}

thread_local! {
    static KNOWN: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

/// Whether all names mean what they mean on `path`, now and until the handler returns, whoever runs its functions and
/// whatever others do meanwhile. Only `SHOW` tells the two apart. Temporary objects are no part of it: see [`Staying`]. Not
/// so the first time after any change: PostgreSQL before 17 goes on with the schemas that the session's path meant before a
/// membership changed, until the path has been set.
pub fn may_stay(path: &str) -> bool {
    // A path that does not say otherwise has the session's own temporary objects before all others.
    if has_temporary_schema() {
        return false;
    }
    // SAFETY: reads variables; a setting is a C string, and nothing sets it before this function returns.
    let (role, session) = unsafe { (shim::GetUserId(), CStr::from_ptr(pg_sys::namespace_search_path)) };
    let invalidations = invalidation::count_for_paths();
    let is_it = |known: &&Known| {
        known.invalidations == invalidations
            && known.role == role
            && known.path == path
            && *known.session == *session
    };
    if let Some(stands) = KNOWN.with_borrow(|known| known.iter().find(is_it).map(|known| known.stands)) {
        return stands;
    }
    // No path that PostgreSQL knows holds a zero byte.
    let stands = CString::new(path).is_ok_and(|path| {
        // SAFETY: two C strings; reads catalogs inside a transaction.
        unsafe { shim::refold_path_stands_for(session.as_ptr(), path.as_ptr()) }
    });
    KNOWN.with_borrow_mut(|known| {
        known.retain(|known| known.invalidations == invalidations);
        if known.len() >= MOST {
            known.clear();
        }
        known.push(Known { invalidations, role, session: session.to_owned(), path: path.to_owned(), stands });
    });
    false
}

/// While it lives, a statement fails that would make the session's temporary schema.
pub struct Staying(bool);

impl Staying {
    /// To be called whether or not the path stays, for a handler within another's call.
    pub fn begin(stays: bool) -> Self {
        // SAFETY: sets a variable of the backend.
        Self(unsafe { shim::refold_expect_no_temporary_schema(stays) })
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        // SAFETY: as in `begin`.
        unsafe { shim::refold_expect_no_temporary_schema(self.0) };
    }
}

fn has_temporary_schema() -> bool {
    let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: reads variables of the backend.
    unsafe { shim::GetTempNamespaceState(&raw mut schema, &raw mut toast) };
    schema != pg_sys::InvalidOid
}
