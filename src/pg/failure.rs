//! An error as text that outlives its transaction.

use crate::error::{Error, ForeignError};
use pgrx::pg_sys;
use std::ffi::{CStr, c_char};

/// What is kept of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub context: Option<String>,
}

impl Failure {
    /// Copies an error; called before the abort that frees it.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Own(report) => Self {
                sqlstate: sqlstate(report.code as i32),
                message: report.message.clone(),
                detail: report.detail.clone(),
                hint: report.hint.clone(),
                context: None,
            },
            // SAFETY: the error was caught whole and lives until the abort of its transaction; its texts are C strings or
            // null.
            Error::Foreign(ForeignError(error)) => unsafe {
                let error = &**error;
                Self {
                    sqlstate: sqlstate(error.sqlerrcode),
                    message: text(error.message).unwrap_or_default(),
                    detail: text(error.detail),
                    hint: text(error.hint),
                    context: text(error.context),
                }
            },
        }
    }
}

/// The five characters of a code.
pub(super) fn sqlstate(code: i32) -> String {
    // SAFETY: returns a static buffer, copied at once.
    unsafe { text(pg_sys::unpack_sql_state(code)) }.unwrap_or_default()
}

/// # Safety
/// Null, or a C string.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    // SAFETY: the caller's.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}
