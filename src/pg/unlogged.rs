//! Unlogged tables, which cost no WAL, and must not keep the server from starting after a crash.

use super::shim;

/// To be called before the transaction makes one: what is undone of it has its end on disk before the tables' files
/// are deleted.
pub fn make() {
    // SAFETY: inside a transaction; sets a variable of the process, and registers what its end calls.
    unsafe { shim::refold_make_unlogged() };
}
