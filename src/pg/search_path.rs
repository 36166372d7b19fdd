//! Whether the session's search_path means what another does, so that it need not be set. To set it and put it back costs
//! PostgreSQL 15 a twenty-fifth of an append: it goes through all settings, and looks up both paths' schemas anew.

use super::{invalidation, shim};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::{CStr, CString};

/// For how many pairs of paths it is remembered, and how many schemas of a path are compared.
const MOST: usize = 16;

/// What is known of two paths while no schema, role or membership changes.
struct Known {
    invalidations: u64,
    role: pg_sys::Oid,
    session: CString,
    path: String,
    same: bool,
}

thread_local! {
    static KNOWN: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

/// The session's path, as the current role has it.
pub struct Session {
    invalidations: u64,
    text: CString,
    schemas: Option<Vec<pg_sys::Oid>>,
}

/// Whether to the current role the session's search_path is as `path`: `None` where that has yet to be found out. It is where
/// both name the same schemas, for the role and for any whose functions it may call. Only `SHOW` tells them apart.
pub fn means(path: &str) -> Option<bool> {
    // SAFETY: reads variables of the backend. The setting is a C string, which nothing changes meanwhile.
    let (role, session) = unsafe { (shim::GetUserId(), CStr::from_ptr(pg_sys::namespace_search_path)) };
    // A path that does not say otherwise has the session's own temporary tables before all others.
    if has_temporary_schema() {
        return Some(false);
    }
    KNOWN.with_borrow(|known| {
        let is_it = |known: &&Known| {
            known.role == role
                && known.path == path
                && *known.session == *session
                && known.invalidations == invalidation::count_for_paths()
        };
        known.iter().find(is_it).map(|known| known.same)
    })
}

impl Session {
    /// To be taken while the session's path is in force.
    pub fn now() -> Self {
        let invalidations = invalidation::count_for_paths();
        // SAFETY: the setting is a C string, copied at once.
        let text = unsafe { CStr::from_ptr(pg_sys::namespace_search_path) }.to_owned();
        Self { invalidations, text, schemas: schemas() }
    }

    /// Remembers whether it means what `path` does, which is in force now.
    pub fn compare(self, path: &str) {
        let session = self.text.to_string_lossy();
        // Schemas of the system's may be searched without being named; where they are, that says where new objects go.
        let names_system =
            session.contains("pg_") || path.strip_suffix("pg_temp").is_none_or(|path| path.contains("pg_"));
        let same = !names_system && self.schemas.is_some() && self.schemas == schemas() && {
            // SAFETY: reads catalogs inside a transaction.
            !session.contains("$user") || !unsafe { shim::refold_some_role_has_a_schema() }
        };
        // SAFETY: reads a variable of the backend.
        let role = unsafe { shim::GetUserId() };
        let Self { invalidations, text: session, .. } = self;
        KNOWN.with_borrow_mut(|known| {
            known.retain(|known| known.invalidations == invalidations);
            if known.len() >= MOST {
                known.clear();
            }
            known.push(Known { invalidations, role, session, path: path.to_owned(), same });
        });
    }
}

fn has_temporary_schema() -> bool {
    let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: reads variables of the backend.
    unsafe { shim::GetTempNamespaceState(&raw mut schema, &raw mut toast) };
    schema != pg_sys::InvalidOid
}

/// The schemas that are searched, but for the temporary one; none where there are too many.
fn schemas() -> Option<Vec<pg_sys::Oid>> {
    let mut schemas = vec![pg_sys::InvalidOid; MOST];
    // SAFETY: writes no more than the length that it is given, and returns how many there are.
    let count = unsafe { pg_sys::fetch_search_path_array(schemas.as_mut_ptr(), schemas.len() as i32) };
    let count = usize::try_from(count).ok().filter(|count| *count <= MOST)?;
    schemas.truncate(count);
    Some(schemas)
}
