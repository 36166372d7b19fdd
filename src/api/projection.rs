//! Creating, rebuilding, verifying and dropping projections.

use crate::error::{Error, Result};
use crate::names::projection_name;
use crate::pg::call::{Call, sql_function, value};
use crate::pg::{catalog, interval};
use crate::projection::admission::refuse_in_handler;
use crate::projection::check::Request;
use crate::projection::fold;
use crate::projection::installation::require_open;
use crate::rebuild::{self, Report};
use pgrx::pg_sys::{Datum, Oid};

sql_function!(refold_create_projection, pg_finfo_refold_create_projection, create_projection);
sql_function!(refold_rebuild_projection, pg_finfo_refold_rebuild_projection, rebuild_projection);
sql_function!(refold_verify_projection, pg_finfo_refold_verify_projection, verify_projection);
sql_function!(refold_drop_projection, pg_finfo_refold_drop_projection, drop_projection);
sql_function!(refold_lock_gate, pg_finfo_refold_lock_gate, lock_gate);
sql_function!(refold_fail_key, pg_finfo_refold_fail_key, fail_key);

fn create_projection(call: &Call) -> Result<Option<Datum>> {
    refuse_in_handler("create projections")?;
    rebuild::require_read_committed("create_projection")?;
    require_open()?;
    let request = Request {
        name: projection_name(call.get(0))?,
        handler: call.get(1).ok_or_else(|| Error::null_argument("handler"))?,
        tables: call.get::<Vec<Option<Oid>>>(2).map(without_nulls).transpose()?,
        event_types: call.get(3),
        key: call.get(4),
        serial: call.get(5).ok_or_else(|| Error::null_argument("serial"))?,
    };
    let build: bool = call.get(6).ok_or_else(|| Error::null_argument("build"))?;
    let create = if build { rebuild::create } else { rebuild::create_unbuilt };
    report(call, create(&catalog::get()?, request)?)
}

fn rebuild_projection(call: &Call) -> Result<Option<Datum>> {
    refuse_in_handler("rebuild projections")?;
    rebuild::require_read_committed("rebuild_projection")?;
    require_open()?;
    let name = projection_name(call.get(0))?;
    let handler: Option<Oid> = call.get(1);
    report(
        call,
        match (call.datum(2), handler) {
            (None, handler) => rebuild::rebuild(&catalog::get()?, &name, handler)?,
            (Some(key), None) => rebuild::rebuild_key(&name, key)?,
            (Some(_), Some(_)) => {
                return Err(Error::bad_value("one row cannot have another handler than the others")
                    .hint("Leave handler or key out."));
            }
        },
    )
}

fn verify_projection(call: &Call) -> Result<Option<Datum>> {
    refuse_in_handler("verify projections")?;
    let name = projection_name(call.get(0))?;
    let mut sink = call.start_rows();
    rebuild::verify(&catalog::get()?, &name, &mut sink)?;
    Ok(None)
}

fn drop_projection(call: &Call) -> Result<Option<Datum>> {
    refuse_in_handler("drop projections")?;
    rebuild::require_read_committed("drop_projection")?;
    require_open()?;
    let name = projection_name(call.get(0))?;
    rebuild::drop_projection(&catalog::get()?, &name)?;
    Ok(Some(Datum::from(0)))
}

fn lock_gate(_call: &Call) -> Result<Option<Datum>> {
    refuse_in_handler("lock the gate")?;
    require_open()?;
    rebuild::lock_gate(&catalog::get()?)?;
    Ok(Some(Datum::from(0)))
}

/// Called by a fold's replay for a row that is not its key's.
fn fail_key(call: &Call) -> Result<Option<Datum>> {
    Err(fold::wrong_key(&call.get::<String>(0).unwrap_or_default()))
}

fn without_nulls(tables: Vec<Option<Oid>>) -> Result<Vec<Oid>> {
    tables.into_iter().collect::<Option<_>>().ok_or_else(|| Error::null_argument("an element of tables"))
}

fn report(call: &Call, report: Report) -> Result<Option<Datum>> {
    call.row(&[
        value(report.projection),
        value(report.generation),
        value(report.events_replayed),
        value(report.events_under_gate),
        value(report.rows.inserted),
        value(report.rows.updated),
        value(report.rows.deleted),
        value(report.gate_attempts),
        interval::datum(report.gate_held),
        interval::datum(report.duration),
    ])
}
