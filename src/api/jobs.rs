//! Rebuilds by background workers: starting and controlling them.

use crate::error::{Error, Result};
use crate::names::projection_name;
use crate::pg::call::{Call, sql_function, value};
use crate::pg::catalog::{self, Catalog};
use crate::pg::procedure;
use crate::projection::admission::refuse_in_handler;
use crate::projection::installation::require_open;
use crate::rebuild::job::control;
use crate::rebuild::job::row::Request;
use crate::rebuild::{self};
use crate::worker;
use pgrx::pg_sys::{Datum, Oid};

sql_function!(refold_start_rebuild, pg_finfo_refold_start_rebuild, start_rebuild);
sql_function!(
    refold_rebuild_projection_concurrently,
    pg_finfo_refold_rebuild_projection_concurrently,
    rebuild_projection_concurrently
);
sql_function!(refold_pause_rebuild, pg_finfo_refold_pause_rebuild, pause_rebuild);
sql_function!(refold_resume_rebuild, pg_finfo_refold_resume_rebuild, resume_rebuild);
sql_function!(refold_cancel_rebuild, pg_finfo_refold_cancel_rebuild, cancel_rebuild);
sql_function!(refold_finish_rebuild, pg_finfo_refold_finish_rebuild, finish_rebuild);
sql_function!(refold_rollback_projection, pg_finfo_refold_rollback_projection, rollback_projection);
sql_function!(refold_skip_event, pg_finfo_refold_skip_event, skip_event);

fn start_rebuild(call: &Call) -> Result<Option<Datum>> {
    let (catalog, name) = prepare(call, "start_rebuild")?;
    let (job, _) = control::start(&catalog, &name, call.get(1), request(call)?)?;
    Ok(value(job))
}

fn rebuild_projection_concurrently(call: &Call) -> Result<Option<Datum>> {
    procedure::require_top_level(call, "rebuild_projection_concurrently")?;
    let (catalog, name) = prepare(call, "rebuild_projection_concurrently")?;
    let on_cancel = match call.get::<String>(5).as_deref() {
        Some("keep") => worker::wait::OnCancel::Keep,
        Some("cancel") => worker::wait::OnCancel::Cancel,
        _ => return Err(Error::bad_value("on_cancel must be 'keep' or 'cancel'")),
    };
    let handler: Option<Oid> = call.get(1);
    let (job, started) = control::start(&catalog, &name, handler, request(call)?)?;
    worker::wait::for_new_model(job, &name, &started, on_cancel)?;
    Ok(None)
}

fn request(call: &Call) -> Result<Request> {
    Ok(Request {
        in_place: call.get(2).ok_or_else(|| Error::null_argument("in_place"))?,
        verify: call.get(3).ok_or_else(|| Error::null_argument("verify"))?,
        grace: call.datum(4).ok_or_else(|| Error::null_argument("grace"))?,
    })
}

fn pause_rebuild(call: &Call) -> Result<Option<Datum>> {
    let (catalog, name) = prepare(call, "pause_rebuild")?;
    control::pause(&catalog, &name)?;
    Ok(Some(Datum::from(0)))
}

fn resume_rebuild(call: &Call) -> Result<Option<Datum>> {
    let (catalog, name) = prepare(call, "resume_rebuild")?;
    let (job, _) = control::resume(&catalog, &name)?;
    Ok(value(job))
}

fn cancel_rebuild(call: &Call) -> Result<Option<Datum>> {
    let (catalog, name) = prepare(call, "cancel_rebuild")?;
    control::cancel(&catalog, &name, None)?;
    Ok(Some(Datum::from(0)))
}

fn finish_rebuild(call: &Call) -> Result<Option<Datum>> {
    let (catalog, name) = prepare(call, "finish_rebuild")?;
    control::finish(&catalog, &name)?;
    Ok(Some(Datum::from(0)))
}

fn rollback_projection(call: &Call) -> Result<Option<Datum>> {
    let (catalog, name) = prepare(call, "rollback_projection")?;
    control::roll_back(&catalog, &name)?;
    Ok(Some(Datum::from(0)))
}

fn skip_event(call: &Call) -> Result<Option<Datum>> {
    let (catalog, name) = prepare(call, "skip_event")?;
    let position = call.get(1).ok_or_else(|| Error::null_argument("position"))?;
    let reason: String = call.get(2).ok_or_else(|| Error::null_argument("reason"))?;
    control::skip_event(&catalog, &name, position, &reason)?;
    Ok(Some(Datum::from(0)))
}

/// What all of them need, and the name that all have as their first argument.
fn prepare(call: &Call, command: &str) -> Result<(Catalog, String)> {
    refuse_in_handler("rebuild projections")?;
    rebuild::require_read_committed(command)?;
    require_open()?;
    Ok((catalog::get()?, projection_name(call.get(0))?))
}
