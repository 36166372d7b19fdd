//! Trigger functions and the step functions of a replay: called by PostgreSQL's executor, not by a user.

use super::call::Call;
use super::shim;
use crate::error::{Error, Result};
use pgrx::pg_sys;

/// What a statement trigger returns: nothing, but not NULL.
pub const DONE: Option<pg_sys::Datum> = Some(pg_sys::Datum::null());

/// 39P01 unless the function is called as a trigger.
pub fn require_trigger(call: &Call) -> Result<()> {
    let context = call.context();
    // SAFETY: a non-null context is a node.
    if !context.is_null() && unsafe { (*context).type_ } == pg_sys::NodeTag::T_TriggerData {
        return Ok(());
    }
    Err(Error::new(
        pgrx::PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "this function can only be called as a trigger",
    ))
}

macro_rules! step_function {
    ($symbol:ident, $info:ident, $function:ident) => {
        /// Calling convention of the function of the same name.
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        }

        /// Calls the handler that is being replayed.
        ///
        /// # Safety
        /// Only PostgreSQL calls it.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $symbol(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
            // SAFETY: nothing but this frame of Rust, with nothing to drop, stands between the executor and the shim.
            unsafe { shim::$function(fcinfo) }
        }
    };
}

step_function!(refold_fold_step, pg_finfo_refold_fold_step, refold_fold_step_in);
step_function!(refold_fold_result, pg_finfo_refold_fold_result, refold_fold_result_in);
step_function!(refold_event_step, pg_finfo_refold_event_step, refold_event_step_in);
