//! This backend.

use pgrx::pg_sys;

/// The process id, as pg_stat_activity shows it.
pub fn id() -> i32 {
    // SAFETY: a plain variable of the backend.
    unsafe { pg_sys::MyProcPid }
}
