//! Trigger functions and the step functions of a replay: called by PostgreSQL's executor, not by a user.

use super::call::Call;
use super::{catalog, shim};
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
    Err(misused("as a trigger"))
}

/// The row that a row trigger is called for.
pub struct Row(*const pg_sys::TriggerData);

/// 39P01 unless the function is called as a row trigger.
pub fn require_row(call: &Call) -> Result<Row> {
    require_trigger(call)?;
    let row = Row(call.context().cast());
    if row.event() & pg_sys::TRIGGER_EVENT_ROW != 0 { Ok(row) } else { Err(misused("as a row trigger")) }
}

/// The same for a row of the log: the columns of another table would be taken for an event's.
pub fn require_row_of_log(call: &Call) -> Result<Row> {
    let row = require_row(call)?;
    // SAFETY: the call's trigger data has the relation, which is open.
    let table = unsafe { (*(*row.0).tg_relation).rd_id };
    if table == catalog::get()?.event { Ok(row) } else { Err(misused("as a trigger on refold.event")) }
}

fn misused(how: &str) -> Error {
    Error::new(
        pgrx::PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        format!("this function can only be called {how}"),
    )
}

impl Row {
    fn event(&self) -> u32 {
        // SAFETY: the call's trigger data, which outlives the call.
        unsafe { (*self.0).tg_event }
    }

    pub fn is_inserted(&self) -> bool {
        self.event() & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_INSERT
    }

    /// What a BEFORE trigger returns that changes nothing.
    pub fn unchanged(&self) -> pg_sys::Datum {
        let is_update = self.event() & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE;
        // SAFETY: as above; an UPDATE has a new row too.
        unsafe { if is_update { (*self.0).tg_newtuple } else { (*self.0).tg_trigtuple } }.into()
    }

    /// The inserted row's columns.
    pub fn columns(&self) -> Vec<Option<pg_sys::Datum>> {
        // SAFETY: the row is of its table's type, and the arrays have an element for each column.
        unsafe {
            let descriptor = (*(*self.0).tg_relation).rd_att;
            let count = (*descriptor).natts as usize;
            let (mut values, mut nulls) = (vec![pg_sys::Datum::from(0); count], vec![false; count]);
            pg_sys::heap_deform_tuple(
                (*self.0).tg_trigtuple,
                descriptor,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            values.into_iter().zip(nulls).map(|(value, null)| (!null).then_some(value)).collect()
        }
    }

    /// What a BEFORE INSERT trigger returns to insert the row with other values in these columns, counted from 1.
    pub fn with<const COUNT: usize>(&self, columns: [(i32, pg_sys::Datum); COUNT]) -> pg_sys::Datum {
        let (mut numbers, mut values) = (columns.map(|column| column.0), columns.map(|column| column.1));
        let mut nulls = [false; COUNT];
        // SAFETY: as above; the values are of the columns' types.
        unsafe {
            pg_sys::heap_modify_tuple_by_cols(
                (*self.0).tg_trigtuple,
                (*(*self.0).tg_relation).rd_att,
                COUNT as i32,
                numbers.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            )
        }
        .into()
    }
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
step_function!(refold_fold_part_step, pg_finfo_refold_fold_part_step, refold_fold_part_step_in);
step_function!(refold_count_part, pg_finfo_refold_count_part, refold_count_part_in);
step_function!(refold_event_step, pg_finfo_refold_event_step, refold_event_step_in);
