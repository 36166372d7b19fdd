//! The one error type: a SQLSTATE, a message, facts for DETAIL and a remedy for HINT. The message is written where the error
//! is made, as one literal: `docs/errors.md` has them all, and a test compares.
//!
//! Errors of user code (`Error::Foreign`) are carried whole and raised again as they were.

use pgrx::PgSqlErrorCode as Code;
use pgrx::pg_sys;

/// An error that PostgreSQL raised in user code, caught whole. It lives in the memory of the failed call and is
/// raised again before that transaction is aborted.
#[derive(Debug, Clone, Copy)]
pub struct ForeignError(pub *mut pg_sys::ErrorData);

/// An error of refold's own.
#[derive(Debug, Clone)]
pub struct Report {
    pub code: Code,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", .0.message)]
    Own(Box<Report>),
    #[error("an error of user code")]
    Foreign(ForeignError),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with this code and message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error::Own(Box::new(Report { code, message: message.into(), detail: None, hint: None }))
    }

    pub fn detail(mut self, text: impl Into<String>) -> Self {
        if let Error::Own(report) = &mut self {
            report.detail = Some(text.into());
        }
        self
    }

    pub fn hint(mut self, text: impl Into<String>) -> Self {
        if let Error::Own(report) = &mut self {
            report.hint = Some(text.into());
        }
        self
    }

    /// Says where in its input the fault is, before what DETAIL says already.
    pub fn at(mut self, place: &str) -> Self {
        if let Error::Own(report) = &mut self {
            let rest = report.detail.take().map(|detail| format!(" {detail}")).unwrap_or_default();
            report.detail = Some(format!("At {place}.{rest}"));
        }
        self
    }

    /// 22023: a value outside its range.
    pub fn bad_value(message: impl Into<String>) -> Self {
        Self::new(Code::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    /// 22004: a NULL where a value is needed.
    pub fn null_argument(name: &str) -> Self {
        Self::new(Code::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{name} must not be null"))
    }

    /// 54000: over a limit.
    pub fn over_limit(what: &str, unit: &str, actual: usize, limit: usize) -> Self {
        Self::new(Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED, format!("{what} is over the limit of {limit} {unit}"))
            .detail(format!("It has {actual} {unit}."))
    }

    /// 40001: the client should retry its transaction from the start.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(Code::ERRCODE_T_R_SERIALIZATION_FAILURE, message)
    }

    /// 42704: no projection of that name.
    pub fn unknown_projection(name: &str) -> Self {
        Self::new(Code::ERRCODE_UNDEFINED_OBJECT, format!("projection \"{name}\" does not exist"))
            .hint("The view refold.projections lists the projections.")
    }

    /// 42P13: a function that cannot be a handler or a key.
    pub fn bad_function(message: impl Into<String>) -> Self {
        Self::new(Code::ERRCODE_INVALID_FUNCTION_DEFINITION, message)
    }

    /// 42501: not allowed.
    pub fn not_allowed(message: impl Into<String>) -> Self {
        Self::new(Code::ERRCODE_INSUFFICIENT_PRIVILEGE, message)
    }

    /// 55000: not in this state.
    pub fn wrong_state(message: impl Into<String>) -> Self {
        Self::new(Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
    }

    /// 55006: in use.
    pub fn in_use(message: impl Into<String>) -> Self {
        Self::new(Code::ERRCODE_OBJECT_IN_USE, message)
    }

    /// 55P03: a lock was not had in time.
    pub fn not_had(message: impl Into<String>) -> Self {
        Self::new(Code::ERRCODE_LOCK_NOT_AVAILABLE, message)
    }

    /// 0A000: not supported.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Code::ERRCODE_FEATURE_NOT_SUPPORTED, message)
    }

    /// XX001: what the log or the registry holds contradicts itself.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::new(Code::ERRCODE_DATA_CORRUPTED, message)
    }
}
