//! What `read_all` needs to know.

use crate::error::Result;
use crate::pg::call::{Call, sql_function, value};
use crate::pg::catalog;
use crate::projection::installation;
use pgrx::pg_sys::Datum;

sql_function!(refold_final_position, pg_finfo_refold_final_position, final_position);

fn final_position(_call: &Call) -> Result<Option<Datum>> {
    Ok(installation::final_position(&catalog::get()?)?.and_then(value))
}
