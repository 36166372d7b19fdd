//! The words of the log as types, and their limits.

use crate::error::{Error, Result};

/// Longest stream_id, in bytes: it is an index key.
pub const MAX_STREAM_ID: usize = 1024;
/// Longest event_type, in bytes.
pub const MAX_EVENT_TYPE: usize = 256;
/// Longest projection name, in bytes: that of any identifier of PostgreSQL.
pub const MAX_PROJECTION_NAME: usize = 63;
/// Largest data or metadata of one event, in bytes of jsonb.
pub const MAX_PAYLOAD: usize = 16 * 1024 * 1024;
/// Most events of one call.
pub const MAX_BATCH: usize = 100_000;

/// The order of the log: 1, 2, ... with gaps where an append was rolled back.
pub type Position = i64;

fn checked(what: &str, value: Option<String>, limit: usize) -> Result<String> {
    let value = value.ok_or_else(|| Error::null_argument(what))?;
    if value.is_empty() {
        return Err(Error::bad_value(format!("{what} must not be empty")));
    }
    if value.len() > limit {
        return Err(Error::over_limit(what, "bytes", value.len(), limit));
    }
    Ok(value)
}

/// A stream's name: not null (22004), not empty (22023), at most [`MAX_STREAM_ID`] bytes (54000).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamId(String);

impl StreamId {
    pub fn new(value: Option<String>) -> Result<Self> {
        checked("stream_id", value, MAX_STREAM_ID).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An event's type: not null (22004), not empty (22023), at most [`MAX_EVENT_TYPE`] bytes (54000).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventType(String);

impl EventType {
    pub fn new(value: Option<String>) -> Result<Self> {
        checked("event_type", value, MAX_EVENT_TYPE).map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A projection's name: not null (22004), not empty (22023), at most [`MAX_PROJECTION_NAME`] bytes (54000).
pub fn projection_name(value: Option<String>) -> Result<String> {
    checked("name", value, MAX_PROJECTION_NAME)
}

/// What an appender expects of its stream before its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedVersion {
    Any,
    NoStream,
    StreamExists,
    Exactly(i64),
}

impl ExpectedVersion {
    /// NULL = no check, 0 = the stream must not exist, n = it must be at n, -1 = it must exist.
    pub fn new(value: Option<i64>) -> Result<Self> {
        match value {
            None => Ok(Self::Any),
            Some(0) => Ok(Self::NoStream),
            Some(-1) => Ok(Self::StreamExists),
            Some(version) if version > 0 => Ok(Self::Exactly(version)),
            Some(version) => {
                Err(Error::bad_value(format!("expected_version must not be {version}")).hint(
                    "NULL: no check; 0: the stream must not exist; -1: it must exist; n: it must be at version n.",
                ))
            }
        }
    }

    /// Checks the version that the stream is at, 0 where it does not exist.
    pub fn check(self, stream: &StreamId, actual: i64) -> Result<()> {
        let expected = match self {
            Self::Any => return Ok(()),
            Self::NoStream if actual == 0 => return Ok(()),
            Self::StreamExists if actual > 0 => return Ok(()),
            Self::Exactly(version) if actual == version => return Ok(()),
            Self::NoStream => "no such stream".to_owned(),
            Self::StreamExists => "an existing stream".to_owned(),
            Self::Exactly(version) => format!("version {version}"),
        };
        let found = if actual == 0 { "no such stream".to_owned() } else { format!("version {actual}") };
        Err(Error::retry(format!("stream \"{}\" is not at the expected version", stream.as_str()))
            .detail(format!("Expected {expected}, found {found}."))
            .hint("Read the stream again, decide again, and retry the transaction."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn names_have_limits() {
        assert!(StreamId::new(None).is_err());
        assert!(StreamId::new(text("")).is_err());
        assert!(StreamId::new(Some("x".repeat(MAX_STREAM_ID))).is_ok());
        assert!(StreamId::new(Some("x".repeat(MAX_STREAM_ID + 1))).is_err());
        assert!(EventType::new(Some("x".repeat(MAX_EVENT_TYPE + 1))).is_err());
    }

    #[test]
    fn expected_version_has_four_forms() {
        let stream = StreamId(String::from("s"));
        let holds = |form: Option<i64>, actual| {
            ExpectedVersion::new(form).is_ok_and(|expected| expected.check(&stream, actual).is_ok())
        };
        assert!(holds(None, 0) && holds(None, 7));
        assert!(holds(Some(0), 0) && !holds(Some(0), 1));
        assert!(holds(Some(3), 3) && !holds(Some(3), 2) && !holds(Some(3), 0));
        assert!(holds(Some(-1), 1) && !holds(Some(-1), 0));
        assert!(ExpectedVersion::new(Some(-2)).is_err());
    }
}
