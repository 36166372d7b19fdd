//! Reading jsonb: as text, by PostgreSQL's own function, and an array of events where it lies.

use super::shim;
use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char};
use std::ptr;

/// An element of an array of events as `event_array.c` lays it out.
#[repr(C)]
pub(super) struct RawElement {
    event_type: *const c_char,
    event_id: *const c_char,
    data: pg_sys::Datum,
    metadata: pg_sys::Datum,
    type_length: i32,
    event_id_length: i32,
}

/// An element of an array of events; the datums are jsonb.
pub struct Element<'a> {
    pub event_type: &'a str,
    pub data: pg_sys::Datum,
    pub metadata: Option<pg_sys::Datum>,
    pub event_id: Option<&'a str>,
}

/// The elements of an array of events, in memory of PostgreSQL's.
pub struct Elements<'a> {
    raw: &'a [RawElement],
}

impl<'a> Elements<'a> {
    /// Reads them. `None` where the array is not one of events as `batch` has it, or has more than `most` of them.
    pub fn read(array: pg_sys::Datum, most: usize) -> Option<Self> {
        let mut elements = ptr::null_mut();
        // SAFETY: a jsonb; errors are guarded. What is read lies in the current memory, which the call's caller frees when
        // the call has returned.
        let raw = unsafe {
            let count = shim::refold_event_array(array, i32::try_from(most).ok()?, &raw mut elements);
            std::slice::from_raw_parts(elements, usize::try_from(count).ok()?)
        };
        Some(Self { raw })
    }

    pub fn len(&self) -> usize {
        self.raw.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = Result<Element<'a>>> {
        self.raw.iter().map(|raw| {
            Ok(Element {
                event_type: text(raw.event_type, raw.type_length)?,
                data: raw.data,
                metadata: (!raw.metadata.is_null()).then_some(raw.metadata),
                event_id: if raw.event_id.is_null() {
                    None
                } else {
                    Some(text(raw.event_id, raw.event_id_length)?)
                },
            })
        })
    }
}

fn text<'a>(start: *const c_char, length: i32) -> Result<&'a str> {
    // SAFETY: so many bytes of a jsonb that lives as long as the elements.
    let bytes = unsafe { std::slice::from_raw_parts(start.cast(), length as usize) };
    std::str::from_utf8(bytes).map_err(|_| not_utf8())
}

fn not_utf8() -> Error {
    Error::damaged("a jsonb value is not in UTF-8")
}

/// The text of a jsonb value, in UTF-8.
pub fn to_text(value: pg_sys::Datum) -> Result<String> {
    // SAFETY: jsonb_out takes one jsonb and returns a palloc'd C string in the server's encoding.
    unsafe {
        let text = pg_sys::OidOutputFunctionCall(pg_sys::F_JSONB_OUT.into(), value);
        let owned = CStr::from_ptr(text).to_str().map(str::to_owned);
        pg_sys::pfree(text.cast());
        owned.map_err(|_| not_utf8())
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
