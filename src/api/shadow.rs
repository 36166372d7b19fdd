//! The steps of a concurrent rebuild that concern its shadow, one by one, for tests and for repairs by hand.

use crate::error::{Error, Result};
use crate::names::projection_name;
use crate::pg::call::{Call, sql_function};
use crate::pg::{catalog, identity, locks, storage};
use crate::projection::admission::refuse_in_handler;
use crate::rebuild;
use pgrx::pg_sys::{Datum, Oid};

sql_function!(refold_shadow_step, pg_finfo_refold_shadow_step, shadow_step);
sql_function!(refold_swap_tables, pg_finfo_refold_swap_tables, swap_tables);

fn shadow_step(call: &Call) -> Result<Option<Datum>> {
    refuse_in_handler("change shadows")?;
    rebuild::require_read_committed("_shadow_step")?;
    let name = projection_name(call.get(0))?;
    let step: String = call.get(1).ok_or_else(|| Error::null_argument("step"))?;
    rebuild::shadow_step(&catalog::get()?, &name, &step)?;
    Ok(Some(Datum::from(0)))
}

fn swap_tables(call: &Call) -> Result<Option<Datum>> {
    refuse_in_handler("swap tables")?;
    let table = |index: usize, name: &str| call.get::<Oid>(index).ok_or_else(|| Error::null_argument(name));
    let (live, shadow) = (table(0, "live")?, table(1, "shadow")?);
    for table in [live, shadow] {
        locks::lock_relation(table, locks::Mode::AccessExclusive);
        if !identity::has_rights_of(catalog::owner_of(table)?) {
            return Err(Error::not_allowed("must be owner of both tables"));
        }
    }
    storage::swap(live, shadow);
    Ok(Some(Datum::from(0)))
}
