//! Schemas by name.

use pgrx::pg_sys;
use std::ffi::CString;

/// The name, with a number behind it if a schema is called so already.
pub fn unused(name: &str) -> String {
    let exists = |name: &str| {
        // SAFETY: a syscache look-up inside a transaction.
        CString::new(name)
            .is_ok_and(|name| unsafe { pg_sys::get_namespace_oid(name.as_ptr(), true) } != pg_sys::InvalidOid)
    };
    let numbered = (1..).map(|number: u32| format!("{name}_{number}"));
    std::iter::once(name.to_owned())
        .chain(numbered)
        .find(|name| !exists(name))
        .unwrap_or_else(|| name.to_owned())
}
