//! Row-level security: it hides rows without an error, and a model must not depend on that.

use pgrx::pg_sys;

/// Whether policies decide which rows of the relation the role sees. The caller has locked the relation, so that the
/// answer stands.
pub fn filters(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups inside a transaction.
    let checked = unsafe { pg_sys::check_enable_rls(relation, role, true) };
    checked == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
}
