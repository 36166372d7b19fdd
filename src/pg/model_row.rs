//! A handler's call and the row of a fold, without statements around them.

use super::shim::{self, Scope};
use super::spi::{self, Arg};
use crate::error::Result;
use pgrx::pg_sys;

/// Calls a handler that returns nothing, or a row, which is copied into the current memory. The outer `None`: the current
/// user may not call it, and the statement says so.
pub fn call_handler(
    handler: pg_sys::Oid,
    args: &[Arg],
    returns_row: bool,
    scope: &mut Scope,
) -> Result<Option<Arg>> {
    let arguments: Vec<_> = args.iter().copied().map(nullable).collect();
    let mut result = nullable(None);
    let mut called = false;
    // SAFETY: a function of so many arguments, of the types that the caller has checked; what it returns is a row if
    // `returns_row`. All pointers outlive the call.
    spi::raised(unsafe {
        shim::refold_call_handler(
            handler,
            arguments.len() as i32,
            arguments.as_ptr(),
            returns_row,
            scope,
            &raw mut result,
            &raw mut called,
        )
    })?;
    Ok(called.then_some((!result.isnull).then_some(result.value)))
}

fn nullable(arg: Arg) -> pg_sys::NullableDatum {
    pg_sys::NullableDatum { value: arg.unwrap_or(pg_sys::Datum::from(0)), isnull: arg.is_none() }
}

/// The row of a key, and where it is; laid out as in `model_row.c`.
#[repr(C)]
pub struct Row<'a> {
    relation: pg_sys::Oid,
    row_type: pg_sys::Oid,
    keys: i32,
    key_types: *const pg_sys::Oid,
    key: *const pg_sys::Datum,
    place: pg_sys::ItemPointerData,
    life: std::marker::PhantomData<&'a ()>,
}

impl<'a> Row<'a> {
    /// The row of `relation`, a live table or a rebuild's copy of it, whose primary key has these values, of these
    /// types; `row_type` is the live table's.
    pub fn new(
        relation: pg_sys::Oid,
        row_type: pg_sys::Oid,
        key_types: &'a [pg_sys::Oid],
        key: &'a [pg_sys::Datum],
    ) -> Self {
        debug_assert_eq!(key_types.len(), key.len());
        Self {
            relation,
            row_type,
            keys: key.len() as i32,
            key_types: key_types.as_ptr(),
            key: key.as_ptr(),
            place: pg_sys::ItemPointerData::default(),
            life: std::marker::PhantomData,
        }
    }

    /// Finds the row, and gives it as a value of the live table's row type; the outer `None`: only the statement can. Called
    /// as the owner, who holds a lock on the table.
    pub fn load(&mut self, scope: &mut Scope) -> Result<Option<Arg>> {
        let mut state = nullable(None);
        let mut loaded = false;
        // SAFETY: the key has as many values and types as it says; all pointers outlive the call.
        spi::raised(unsafe { shim::refold_load_row(self, scope, &raw mut state, &raw mut loaded) })?;
        Ok(loaded.then_some((!state.isnull).then_some(state.value)))
    }

    /// Writes the row that was loaded; false, and nothing is changed, where only the statement can.
    pub fn update(&mut self, state: pg_sys::Datum, scope: &mut Scope) -> Result<bool> {
        let mut updated = false;
        // SAFETY: the state is a row; else as in `load`, which has set the place or left it invalid.
        spi::raised(unsafe { shim::refold_update_row(self, state, scope, &raw mut updated) })?;
        Ok(updated)
    }
}
