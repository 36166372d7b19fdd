//! SQL from Rust: plans that last, exact snapshots, and errors of user code kept whole.

use super::shim;
use super::shim::Scope;
use crate::error::{Error, ForeignError, Result};
use pgrx::{FromDatum, IntoDatum, pg_sys};
use std::cell::Cell;
use std::ffi::{CString, c_char};
use std::marker::PhantomData;
use std::ptr;
use std::thread::LocalKey;

/// A parameter of a plan; `None` is NULL.
pub type Arg = Option<pg_sys::Datum>;

/// A prepared and kept plan.
pub struct Plan {
    plan: pg_sys::SPIPlanPtr,
    sql: CString,
    arguments: usize,
}

impl Plan {
    /// Prepares `sql` with parameters of these types.
    pub fn prepare(sql: &str, types: &[pg_sys::Oid]) -> Result<Self> {
        let text = c_string(sql)?;
        let mut types = types.to_vec();
        let mut plan = ptr::null_mut();
        connect();
        // SAFETY: connected to SPI; the pointers outlive the call.
        let error = unsafe {
            shim::refold_prepare(text.as_ptr(), types.len() as i32, types.as_mut_ptr(), &raw mut plan)
        };
        raised(error)?;
        finish();
        Ok(Self { plan, sql: text, arguments: types.len() })
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: the plan was kept, is owned by self alone and is not running: whoever runs it borrows it. Freeing it
        // touches the backend's own memory only, so it is right in an aborted transaction too.
        unsafe { pg_sys::SPI_freeplan(self.plan) };
    }
}

/// Which snapshot a plan runs on.
#[derive(Clone, Copy)]
pub enum Snapshot {
    /// As any command: a new one in READ COMMITTED, else the transaction's.
    Command,
    /// The newest, whatever the isolation level.
    Latest,
    /// One that the caller keeps registered.
    Kept(pg_sys::Snapshot),
}

/// The rows of a result, valid until the reading closure returns.
pub struct Rows<'a> {
    table: *mut pg_sys::SPITupleTable,
    len: usize,
    life: PhantomData<&'a ()>,
}

impl Rows<'_> {
    pub fn len(&self) -> usize {
        self.len
    }

    fn binary(&self, row: usize, column: usize) -> (Arg, pg_sys::Oid) {
        if self.table.is_null() || row >= self.len {
            return (None, pg_sys::InvalidOid);
        }
        let mut null = false;
        // SAFETY: the table is SPI's, still connected; row is in range, and SPI_getbinval checks the column.
        unsafe {
            let tuple = *(*self.table).vals.add(row);
            let number = column as i32 + 1;
            let value = pg_sys::SPI_getbinval(tuple, (*self.table).tupdesc, number, &raw mut null);
            ((!null).then_some(value), pg_sys::SPI_gettypeid((*self.table).tupdesc, number))
        }
    }

    /// A value as a Rust type that owns it; `None` for NULL.
    pub fn get<T: FromDatum>(&self, row: usize, column: usize) -> Option<T> {
        let (value, oid) = self.binary(row, column);
        // SAFETY: the value is of the type that its descriptor says; FromDatum copies what it keeps.
        value.and_then(|datum| unsafe { T::from_polymorphic_datum(datum, false, oid) })
    }

    /// A value that must not be NULL: XX001 otherwise.
    pub fn need<T: FromDatum>(&self, row: usize, column: usize) -> Result<T> {
        self.get(row, column).ok_or_else(|| {
            Error::damaged(format!("unexpected null in column {} of refold's catalogs", column + 1))
        })
    }

    /// A value as it is, copied into the memory that was current before the plan ran.
    pub fn datum(&self, row: usize, column: usize) -> Arg {
        let (value, oid) = self.binary(row, column);
        value.map(|datum| {
            let (mut length, mut by_value) = (0, false);
            // SAFETY: oid is the value's type; SPI is connected, as SPI_datumTransfer wants.
            unsafe {
                pg_sys::get_typlenbyval(oid, &raw mut length, &raw mut by_value);
                pg_sys::SPI_datumTransfer(datum, by_value, length.into())
            }
        })
    }
}

/// Frees a row value that [`Rows::datum`] has copied.
pub fn free_row(value: Arg) {
    if let Some(row) = value {
        // SAFETY: a row is passed by reference, and SPI_datumTransfer has copied it into one piece of memory.
        unsafe { pg_sys::pfree(row.cast_mut_ptr()) }
    }
}

/// Runs a plan and reads its rows; returns what `read` returns.
pub fn query<R>(
    plan: &Plan,
    args: &[Arg],
    snapshot: Snapshot,
    scope: Option<&mut Scope>,
    read: impl FnOnce(&Rows<'_>) -> Result<R>,
) -> Result<R> {
    debug_assert_eq!(plan.arguments, args.len());
    let mut values: Vec<pg_sys::Datum> =
        args.iter().map(|arg| arg.unwrap_or(pg_sys::Datum::from(0))).collect();
    let nulls: Vec<c_char> =
        args.iter().map(|arg| if arg.is_some() { b' ' } else { b'n' } as c_char).collect();
    connect();
    let snapshot = match snapshot {
        Snapshot::Command => ptr::null_mut(),
        // SAFETY: inside a transaction; SPI copies this static snapshot before it takes any other.
        Snapshot::Latest => unsafe { pg_sys::GetLatestSnapshot() },
        Snapshot::Kept(kept) => kept,
    };
    // SAFETY: connected to SPI; as many values and nulls as the plan has parameters; all pointers outlive the call.
    let error = unsafe {
        shim::refold_execute(
            plan.plan,
            plan.sql.as_ptr(),
            values.as_mut_ptr(),
            nulls.as_ptr(),
            snapshot,
            scope_pointer(scope),
        )
    };
    raised(error)?;
    let result = read(&rows())?;
    finish();
    Ok(result)
}

/// Runs a plan for its effect; returns how many rows it processed.
pub fn execute(plan: &Plan, args: &[Arg], scope: Option<&mut Scope>) -> Result<u64> {
    query(plan, args, Snapshot::Command, scope, |rows| Ok(rows.len() as u64))
}

/// Runs SQL text without parameters, utility commands included; returns how many rows it processed.
pub fn command(sql: &str) -> Result<u64> {
    execute(&Plan::prepare(sql, &[])?, &[], None)
}

/// A parameter with its type.
pub type TypedArg = (pg_sys::Oid, Arg);

/// A Rust value as a parameter.
pub fn arg<T: IntoDatum>(value: T) -> TypedArg {
    (T::type_oid(), value.into_datum())
}

/// Prepares, runs and forgets: for what runs once.
pub fn query_once<R>(
    sql: &str,
    args: &[TypedArg],
    snapshot: Snapshot,
    read: impl FnOnce(&Rows<'_>) -> Result<R>,
) -> Result<R> {
    let (types, args): (Vec<_>, Vec<_>) = args.iter().copied().unzip();
    query(&Plan::prepare(sql, &types)?, &args, snapshot, None, read)
}

/// An error that the shim has caught.
pub(super) fn raised(error: *mut pg_sys::ErrorData) -> Result<()> {
    if error.is_null() { Ok(()) } else { Err(Error::Foreign(ForeignError(error))) }
}

fn scope_pointer(scope: Option<&mut Scope>) -> *mut Scope {
    scope.map_or(ptr::null_mut(), |scope| scope as *mut Scope)
}

fn rows() -> Rows<'static> {
    // SAFETY: SPI's result variables belong to this backend's innermost connection.
    unsafe { Rows { table: pg_sys::SPI_tuptable, len: pg_sys::SPI_processed as usize, life: PhantomData } }
}

fn connect() {
    // SAFETY: only allocates; paired with `finish` unless an error ends the (sub)transaction.
    unsafe { pg_sys::SPI_connect() };
}

fn finish() {
    // SAFETY: connected.
    unsafe { pg_sys::SPI_finish() };
}

fn c_string(sql: &str) -> Result<CString> {
    CString::new(sql).map_err(|_| Error::bad_value("SQL text holds a zero byte"))
}

/// Where [`kept`] keeps a plan, with the relation it was prepared for.
pub type KeptPlan = Cell<Option<(pg_sys::Oid, &'static Plan)>>;

/// A plan that is prepared at its first use and lives as long as the backend, or until the extension is made anew.
pub fn kept(
    slot: &'static LocalKey<KeptPlan>,
    log: pg_sys::Oid,
    prepare: impl FnOnce() -> Result<Plan>,
) -> Result<&'static Plan> {
    if let Some((owner, plan)) = slot.get()
        && owner == log
    {
        return Ok(plan);
    }
    let plan: &'static Plan = Box::leak(Box::new(prepare()?));
    slot.set(Some((log, plan)));
    Ok(plan)
}

/// A string as a literal of SQL text.
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}
