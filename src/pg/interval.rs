//! Durations as SQL intervals.

use pgrx::{IntoDatum, pg_sys};
use std::time::Duration;

/// A duration as an `interval` without days.
pub fn datum(duration: Duration) -> Option<pg_sys::Datum> {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    pgrx::datum::Interval::new(0, 0, microseconds).ok().and_then(IntoDatum::into_datum)
}
