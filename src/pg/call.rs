//! The doors through which SQL calls Rust.
//!
//! A door runs its body inside pgrx's guard. An error of refold's own is reported there. An error of user code is put
//! aside, the guard is left, every destructor has run, and then the whole error is raised again as it was.

pub use super::shim::warn;
use crate::error::{Error, ForeignError, Report, Result};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{FromDatum, IntoDatum, PgLogLevel, pg_sys};
use std::cell::Cell;

thread_local! {
    static PENDING: Cell<Option<ForeignError>> = const { Cell::new(None) };
}

/// The arguments of a call.
pub struct Call(pg_sys::FunctionCallInfo);

impl Call {
    /// An argument as it is; `None` for NULL.
    pub fn datum(&self, index: usize) -> Option<pg_sys::Datum> {
        // SAFETY: the function is declared with more than `index` arguments.
        unsafe { pgrx::fcinfo::pg_getarg_datum(self.0, index) }
    }

    /// An argument as a Rust type; `None` for NULL.
    pub fn get<T: FromDatum>(&self, index: usize) -> Option<T> {
        // SAFETY: the function is declared with an argument of that type.
        unsafe { pgrx::fcinfo::pg_getarg(self.0, index) }
    }

    /// A row of the call's own result type.
    pub fn row(&self, values: &[Option<pg_sys::Datum>]) -> Result<Option<pg_sys::Datum>> {
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: fcinfo is valid for the call; the descriptor is the declared result type's.
        let descriptor = unsafe {
            let class = pg_sys::get_call_result_type(self.0, std::ptr::null_mut(), &raw mut descriptor);
            if class != pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE
                || (*descriptor).natts as usize != values.len()
            {
                return Err(Error::damaged("the function's declared result is not what the library returns"));
            }
            pg_sys::BlessTupleDesc(descriptor)
        };
        let (mut datums, mut nulls) = split(values);
        // SAFETY: blessed, with as many columns as there are values.
        Ok(Some(unsafe { form_row(descriptor, &mut datums, &mut nulls) }))
    }

    /// Starts a set of rows as the call's result.
    pub fn start_rows(&self) -> RowSink {
        // SAFETY: the function is declared SETOF; errors (a caller that cannot take a set) are guarded.
        unsafe {
            pg_sys::InitMaterializedSRF(self.0, 0);
            RowSink((*self.0).resultinfo.cast())
        }
    }

    pub(super) fn context(&self) -> *mut pg_sys::Node {
        // SAFETY: fcinfo is valid for the call.
        unsafe { (*self.0).context }
    }
}

fn split(values: &[Option<pg_sys::Datum>]) -> (Vec<pg_sys::Datum>, Vec<bool>) {
    values.iter().map(|value| (value.unwrap_or(pg_sys::Datum::from(0)), value.is_none())).unzip()
}

/// # Safety
/// The descriptor is blessed and has the values' columns.
unsafe fn form_row(
    descriptor: pg_sys::TupleDesc,
    datums: &mut [pg_sys::Datum],
    nulls: &mut [bool],
) -> pg_sys::Datum {
    // SAFETY: as the caller says.
    unsafe {
        let tuple = pg_sys::heap_form_tuple(descriptor, datums.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}

thread_local! {
    /// What an append returns, as PostgreSQL knows it.
    static POSITIONED: Cell<pg_sys::TupleDesc> = const { Cell::new(std::ptr::null_mut()) };
}

/// The row (stream_version, position), as [`Call::row`] would form it; but to look the function's declaration up for each
/// append would cost as much as a write to an index.
pub fn positioned(stream_version: i64, position: i64) -> pg_sys::Datum {
    if POSITIONED.get().is_null() {
        // SAFETY: made in memory that lasts as long as the backend, and registered as an unnamed type once.
        let descriptor = unsafe {
            let caller = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            let descriptor = pg_sys::CreateTemplateTupleDesc(2);
            for (number, name) in [(1, c"stream_version"), (2, c"position")] {
                pg_sys::TupleDescInitEntry(descriptor, number, name.as_ptr(), pg_sys::INT8OID, -1, 0);
            }
            pg_sys::MemoryContextSwitchTo(caller);
            pg_sys::BlessTupleDesc(descriptor)
        };
        POSITIONED.set(descriptor);
    }
    // SAFETY: made above for two values.
    unsafe {
        let mut datums = [pg_sys::Datum::from(stream_version), pg_sys::Datum::from(position)];
        form_row(POSITIONED.get(), &mut datums, &mut [false; 2])
    }
}

/// Takes the rows of a set-returning call.
pub struct RowSink(*mut pg_sys::ReturnSetInfo);

impl RowSink {
    pub fn put(&mut self, values: &[Option<pg_sys::Datum>]) {
        let (mut datums, mut nulls) = split(values);
        // SAFETY: the store and its descriptor were made by InitMaterializedSRF; the row has the declared columns.
        unsafe {
            pg_sys::tuplestore_putvalues(
                (*self.0).setResult,
                (*self.0).setDesc,
                datums.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
    }
}

/// A Rust value as an SQL value.
pub fn value<T: IntoDatum>(value: T) -> Option<pg_sys::Datum> {
    value.into_datum()
}

fn report(error: Report) -> ! {
    let mut report = ErrorReport::new(error.code, error.message, "refold");
    if let Some(detail) = error.detail {
        report = report.set_detail(detail);
    }
    if let Some(hint) = error.hint {
        report = report.set_hint(hint);
    }
    report.report(PgLogLevel::ERROR);
    unreachable!("an error was reported")
}

/// Runs a function's body and answers its caller.
///
/// # Safety
/// `fcinfo` is that of a call by PostgreSQL, and the caller is the outermost Rust frame, with nothing to drop.
pub unsafe fn answer(
    fcinfo: pg_sys::FunctionCallInfo,
    body: fn(&Call) -> Result<Option<pg_sys::Datum>>,
) -> pg_sys::Datum {
    // SAFETY: the guard turns panics into errors of PostgreSQL at this, the outermost frame.
    let datum = unsafe {
        pg_sys::panic::pgrx_extern_c_guard(|| match body(&Call(fcinfo)) {
            Ok(datum) => {
                (*fcinfo).isnull = datum.is_none();
                datum.unwrap_or(pg_sys::Datum::from(0))
            }
            Err(Error::Foreign(error)) => {
                PENDING.set(Some(error));
                pg_sys::Datum::from(0)
            }
            Err(Error::Own(error)) => report(*error),
        })
    };
    if let Some(ForeignError(error)) = PENDING.take() {
        // SAFETY: the error was caught whole in this call and its memory lives until the transaction's abort; no
        // frame between here and PostgreSQL has anything to drop.
        unsafe { super::shim::ReThrowError(error) }
    }
    datum
}

/// Makes `$body`, a `fn(&Call) -> Result<Option<Datum>>`, callable from SQL under the name `$symbol`.
macro_rules! sql_function {
    ($symbol:ident, $info:ident, $body:path) => {
        /// Calling convention of the function of the same name.
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pgrx::pg_sys::Pg_finfo_record {
            const V1: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &V1
        }

        /// Door to the function of the same name.
        ///
        /// # Safety
        /// Only PostgreSQL calls it.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $symbol(
            fcinfo: pgrx::pg_sys::FunctionCallInfo,
        ) -> pgrx::pg_sys::Datum {
            // SAFETY: called by PostgreSQL; this frame has nothing to drop.
            unsafe { $crate::pg::call::answer(fcinfo, $body) }
        }
    };
}
pub(crate) use sql_function;
