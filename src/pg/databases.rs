//! The databases of the server, for a worker that is connected to none.

use super::shim;
use pgrx::pg_sys;
use std::ffi::CStr;

/// OID and name of each database that takes connections.
pub fn all() -> Vec<(pg_sys::Oid, String)> {
    let mut oid = pg_sys::InvalidOid;
    let mut databases = Vec::new();
    // SAFETY: inside a transaction; the scan is ended by the call that returns null, or by the abort. The name is copied
    // before the next call.
    unsafe {
        let scan = shim::refold_begin_databases();
        loop {
            let name = shim::refold_next_database(scan, &raw mut oid);
            if name.is_null() {
                return databases;
            }
            databases.push((oid, CStr::from_ptr(name).to_string_lossy().into_owned()));
        }
    }
}
