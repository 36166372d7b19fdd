//! Types as SQL text.

use pgrx::pg_sys;
use std::ffi::CStr;

/// A type's name, always with its schema.
pub fn qualified_name(oid: pg_sys::Oid) -> String {
    // SAFETY: a catalog look-up that returns a palloc'd C string.
    unsafe { CStr::from_ptr(pg_sys::format_type_be_qualified(oid)) }.to_string_lossy().into_owned()
}
