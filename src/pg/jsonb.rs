//! jsonb to text and back, by PostgreSQL's own functions.

use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// The text of a jsonb value, in UTF-8.
pub fn to_text(value: pg_sys::Datum) -> Result<String> {
    // SAFETY: jsonb_out takes one jsonb and returns a palloc'd C string in the server's encoding.
    unsafe {
        let text = pg_sys::OidOutputFunctionCall(pg_sys::F_JSONB_OUT.into(), value);
        let owned = CStr::from_ptr(text).to_str().map(str::to_owned);
        pg_sys::pfree(text.cast());
        owned.map_err(|_| Error::damaged("a jsonb value is not in UTF-8"))
    }
}

/// A jsonb value from text that came out of a jsonb value: no zero byte, well-formed.
pub fn from_text(text: &str) -> pg_sys::Datum {
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: jsonb_in takes one C string; errors are guarded.
    unsafe {
        pg_sys::OidInputFunctionCall(
            pg_sys::F_JSONB_IN.into(),
            text.as_ptr().cast_mut(),
            pg_sys::JSONBOID,
            -1,
        )
    }
}
