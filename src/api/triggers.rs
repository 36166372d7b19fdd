//! The triggers on refold's own tables.

use crate::error::{Error, Result};
use crate::pg::call::{Call, sql_function};
use crate::pg::event_tuple::Event;
use crate::pg::trigger::{DONE, require_row, require_row_of_log, require_trigger};
use crate::pg::{catalog, invalidation};
use crate::projection::{admission, installation};
use pgrx::pg_sys::Datum;

sql_function!(refold_admit_insert, pg_finfo_refold_admit_insert, admit_insert);
sql_function!(refold_admit_restore, pg_finfo_refold_admit_restore, admit_restore);
sql_function!(refold_apply_insert, pg_finfo_refold_apply_insert, apply_insert);
sql_function!(refold_refuse_change, pg_finfo_refold_refuse_change, refuse_change);
sql_function!(refold_admit_replicated, pg_finfo_refold_admit_replicated, admit_replicated);
sql_function!(refold_apply_replicated, pg_finfo_refold_apply_replicated, apply_replicated);
sql_function!(refold_refuse_replicated, pg_finfo_refold_refuse_replicated, refuse_replicated);
sql_function!(refold_invalidate_registry, pg_finfo_refold_invalidate_registry, invalidate_registry);

fn admit_insert(call: &Call) -> Result<Option<Datum>> {
    require_trigger(call)?;
    admission::admit_insert()?;
    Ok(DONE)
}

fn admit_restore(call: &Call) -> Result<Option<Datum>> {
    require_trigger(call)?;
    installation::admit_registry()?;
    Ok(DONE)
}

fn apply_insert(call: &Call) -> Result<Option<Datum>> {
    require_trigger(call)?;
    admission::apply_insert()?;
    Ok(DONE)
}

fn refuse_change(call: &Call) -> Result<Option<Datum>> {
    require_trigger(call)?;
    Err(Error::wrong_state("refold.event is append-only")
        .detail("Events are never updated, deleted or truncated.")
        .hint("Append an event that corrects the earlier one."))
}

fn admit_replicated(call: &Call) -> Result<Option<Datum>> {
    const POSITION: i32 = 1;
    const HORIZON: i32 = 9;
    let row = require_row_of_log(call)?;
    if !row.is_inserted() {
        return refuse_change(call);
    }
    if admission::is_admitted() {
        return Ok(Some(row.unchanged()));
    }
    let event = admission::admit_replicated(|| Event::from_columns(&row.columns()))?;
    let (Some(position), Some(horizon)) = (event.position, event.horizon) else {
        return Err(Error::damaged("an event was admitted without a position"));
    };
    Ok(Some(row.with([(POSITION, position.into()), (HORIZON, horizon.into())])))
}

fn apply_replicated(call: &Call) -> Result<Option<Datum>> {
    let row = require_row_of_log(call)?;
    admission::apply_replicated(|| Event::from_columns(&row.columns()))?;
    Ok(DONE)
}

fn refuse_replicated(call: &Call) -> Result<Option<Datum>> {
    let row = require_row(call)?;
    installation::refuse_replicated()?;
    Ok(Some(row.unchanged()))
}

fn invalidate_registry(call: &Call) -> Result<Option<Datum>> {
    require_trigger(call)?;
    invalidation::send(catalog::get()?.gate);
    Ok(DONE)
}
