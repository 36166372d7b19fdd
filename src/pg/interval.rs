//! Durations as SQL intervals.

use pgrx::{IntoDatum, pg_sys};
use std::time::Duration;

/// A duration as an `interval` without days.
pub fn datum(duration: Duration) -> Option<pg_sys::Datum> {
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    pgrx::datum::Interval::new(0, 0, microseconds).ok().and_then(IntoDatum::into_datum)
}

/// Whether an `interval` is longer than none.
pub fn is_positive(interval: pg_sys::Datum) -> bool {
    // SAFETY: a value of that type, which is fixed-length and passed by reference.
    let interval = unsafe { &*interval.cast_mut_ptr::<pg_sys::Interval>() };
    let days = i128::from(interval.month) * 30 + i128::from(interval.day);
    days * 86_400_000_000 + i128::from(interval.time) > 0
}
