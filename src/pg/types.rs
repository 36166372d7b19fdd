//! Types as SQL text.

use pgrx::pg_sys;
use std::ffi::CStr;

/// A type's name, always with its schema.
pub fn qualified_name(oid: pg_sys::Oid) -> String {
    // SAFETY: a catalog look-up that returns a palloc'd C string.
    unsafe { CStr::from_ptr(pg_sys::format_type_be_qualified(oid)) }.to_string_lossy().into_owned()
}

/// Whether values of the type can be hashed. Only looks at catalogs: nothing of the type runs.
pub fn is_hashable(oid: pg_sys::Oid) -> bool {
    // SAFETY: the entry belongs to the type cache and is only read.
    unsafe {
        let entry = pg_sys::lookup_type_cache(oid, pg_sys::TYPECACHE_HASH_EXTENDED_PROC as i32);
        (*entry).hash_extended_proc != pg_sys::InvalidOid
    }
}
