//! A server's error with all it says: `postgres::Error` alone prints "db error".

use postgres::error::SqlState;

/// The error as psql would show it at verbose.
pub fn explain(error: postgres::Error) -> anyhow::Error {
    let Some(server) = error.as_db_error() else { return error.into() };
    let mut text = format!("{}: {} (SQLSTATE {})", server.severity(), server.message(), server.code().code());
    for (label, part) in [("DETAIL", server.detail()), ("HINT", server.hint()), ("CONTEXT", server.where_())]
    {
        if let Some(part) = part {
            text.push_str(&format!("\n{label}: {part}"));
        }
    }
    anyhow::Error::msg(text)
}

/// The client should run its transaction again: serialization failure or deadlock.
pub fn is_retryable(error: &postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED))
}

/// The rebuild did not get its locks in the time it allows itself, and changed nothing.
pub fn is_lock_timeout(error: &postgres::Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}
