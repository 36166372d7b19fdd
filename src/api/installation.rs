//! The store as this installation has it.

use crate::error::Result;
use crate::pg::call::{Call, sql_function, value};
use crate::pg::catalog;
use crate::projection::admission::refuse_in_handler;
use crate::projection::installation::require_open;
use pgrx::pg_sys::Datum;

sql_function!(refold_cluster, pg_finfo_refold_cluster, cluster);
sql_function!(refold_open_store, pg_finfo_refold_open_store, open_store);

fn cluster(_call: &Call) -> Result<Option<Datum>> {
    Ok(value(catalog::cluster()))
}

fn open_store(_call: &Call) -> Result<Option<Datum>> {
    refuse_in_handler("open the store")?;
    require_open()?;
    Ok(Some(Datum::from(0)))
}
