//! The OIDs of refold's own objects, looked up once and again after each invalidation of the gate.

use super::{invalidation, locks, shim};
use crate::error::{Error, Result};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;

/// refold's objects in this database.
#[derive(Clone, Copy)]
pub struct Catalog {
    /// The relation that is only ever locked.
    pub gate: pg_sys::Oid,
    /// `refold.event`.
    pub event: pg_sys::Oid,
    /// The row type of `refold.event`.
    pub event_type: pg_sys::Oid,
    /// The type `refold.event[]`.
    pub event_array: pg_sys::Oid,
    /// The sequence of positions.
    pub positions: pg_sys::Oid,
    /// The functions of the log's BEFORE INSERT and AFTER INSERT triggers, for statements and then for replicated rows;
    /// InvalidOid where one is missing.
    pub insert_triggers: [pg_sys::Oid; 4],
    /// Who owns the log: internal statements run as this role.
    pub owner: pg_sys::Oid,
}

thread_local! {
    static CATALOG: Cell<Option<(u64, Catalog)>> = const { Cell::new(None) };
}

fn relation(namespace: pg_sys::Oid, name: &CStr) -> Result<pg_sys::Oid> {
    // SAFETY: a syscache look-up inside a transaction.
    let oid = unsafe { pg_sys::get_relname_relid(name.as_ptr(), namespace) };
    if oid == pg_sys::InvalidOid {
        return Err(Error::damaged(format!("relation refold.{} does not exist", name.to_string_lossy())));
    }
    Ok(oid)
}

/// A function without arguments, or InvalidOid.
fn function(namespace: pg_sys::Oid, name: &CStr) -> pg_sys::Oid {
    // SAFETY: a syscache look-up inside a transaction, by a C string, an empty oidvector that the look-up only reads, and
    // a schema.
    unsafe {
        let arguments = pg_sys::buildoidvector(std::ptr::null(), 0);
        let oid = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as pg_sys::AttrNumber,
            name.as_ptr().into(),
            arguments.into(),
            namespace.into(),
            pg_sys::Datum::from(0),
        );
        pg_sys::pfree(arguments.cast());
        oid
    }
}

/// Who owns a relation; XX001 if there is none.
pub fn owner_of(relation: pg_sys::Oid) -> Result<pg_sys::Oid> {
    // SAFETY: the tuple is pinned while it is read, and released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as i32, relation.into());
        if tuple.is_null() {
            return Err(Error::damaged(format!("relation {} does not exist", relation.to_u32())));
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Ok(owner)
    }
}

fn look_up() -> Result<Catalog> {
    require_utf8()?;
    // SAFETY: a syscache look-up inside a transaction.
    let namespace = unsafe { pg_sys::get_namespace_oid(c"refold".as_ptr(), true) };
    let event = relation(namespace, c"event")?;
    // SAFETY: syscache look-ups inside a transaction.
    let (event_type, event_array) = unsafe {
        let row_type = pg_sys::get_rel_type_id(event);
        (row_type, pg_sys::get_array_type(row_type))
    };
    Ok(Catalog {
        gate: relation(namespace, c"gate")?,
        event,
        event_type,
        event_array,
        positions: relation(namespace, c"event_position_seq")?,
        insert_triggers: [c"_admit_insert", c"_apply_insert", c"_admit_replicated", c"_apply_replicated"]
            .map(|name| function(namespace, name)),
        owner: owner_of(event)?,
    })
}

/// 0A000 in a database of another encoding: its text would be damaged on its way through Rust.
fn require_utf8() -> Result<()> {
    // SAFETY: reads a variable of the backend.
    if unsafe { pg_sys::GetDatabaseEncoding() } == pg_sys::pg_enc::PG_UTF8 as i32 {
        return Ok(());
    }
    Err(Error::unsupported("refold needs a database with the encoding UTF8")
        .hint("Use CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0."))
}

/// Whether this database has refold.
pub fn is_installed() -> bool {
    // SAFETY: a catalog look-up inside a transaction.
    unsafe { pg_sys::get_extension_oid(c"refold".as_ptr(), true) != pg_sys::InvalidOid }
}

/// The system identifier, which pg_control has: another one in every cluster that initdb has made.
pub fn cluster() -> i64 {
    // SAFETY: reads a variable that is set when the server starts.
    unsafe { pg_sys::GetSystemIdentifier() }.cast_signed()
}

/// refold's objects as of now.
pub fn get() -> Result<Catalog> {
    loop {
        let before = invalidation::count();
        if let Some((count, catalog)) = CATALOG.get()
            && count == before
        {
            return Ok(catalog);
        }
        let catalog = look_up()?;
        if invalidation::count() == before {
            // SAFETY: sets a variable of the shim.
            unsafe { shim::refold_set_gate(catalog.gate) };
            invalidation::watch_gate(catalog.gate);
            CATALOG.set(Some((before, catalog)));
            return Ok(catalog);
        }
    }
}

/// I1: takes RowExclusiveLock on the gate, and returns refold's objects as they are while it is held.
pub fn get_under_gate() -> Result<Catalog> {
    loop {
        let catalog = get()?;
        locks::lock_relation(catalog.gate, locks::Mode::RowExclusive);
        // Locking has accepted invalidations: if the gate was replaced meanwhile, this finds the new one.
        let locked = get()?;
        if locked.gate == catalog.gate {
            return Ok(locked);
        }
    }
}
