//! Transactions of a background worker.

use super::failure::{self, Failure};
use super::snapshot;
use crate::error::{Error, Result};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use std::panic::AssertUnwindSafe;

/// Runs `body` in a transaction with a snapshot, as a command of a client runs, and commits. On an error all is undone.
pub fn run<R>(body: impl FnOnce() -> Result<R>) -> std::result::Result<R, Failure> {
    transact(true, body)
}

/// As [`run`], without a snapshot: it keeps vacuum from nothing, and nobody who waits for old snapshots waits for it.
pub fn run_without_snapshot<R>(body: impl FnOnce() -> Result<R>) -> std::result::Result<R, Failure> {
    transact(false, body)
}

fn transact<R>(snapshot: bool, body: impl FnOnce() -> Result<R>) -> std::result::Result<R, Failure> {
    let attempt = || -> std::result::Result<R, Failure> {
        // SAFETY: the worker is outside a transaction; the snapshot pushed here is popped below, or by the abort.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            if snapshot {
                pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            }
        }
        let result = in_read_committed().and_then(|()| body()).map_err(|error| Failure::of(&error))?;
        // SAFETY: as above; inside the transaction started above.
        unsafe {
            if snapshot {
                pg_sys::PopActiveSnapshot();
            }
            pg_sys::CommitTransactionCommand();
        }
        Ok(result)
    };
    let result = pgrx::PgTryBuilder::new(AssertUnwindSafe(attempt))
        .catch_others(|error| Err(caught(error)))
        .catch_rust_panic(|error| Err(caught(error)))
        .execute();
    if result.is_err() {
        // SAFETY: the error was taken off PostgreSQL's stack, by the shim or by pgrx; the abort undoes the transaction and
        // does nothing where none is open.
        unsafe { pg_sys::AbortCurrentTransaction() };
    }
    result
}

/// The protocols of workers rely on it: each command sees what has been committed before it.
fn in_read_committed() -> Result<()> {
    match snapshot::keeps_one_snapshot() {
        false => Ok(()),
        true => Err(Error::damaged("a worker's transaction is not READ COMMITTED")),
    }
}

/// Runs `body` outside a transaction: an interrupt there is a failure too, and not the end of the process.
pub fn outside<R>(body: impl FnOnce() -> R) -> std::result::Result<R, Failure> {
    pgrx::PgTryBuilder::new(AssertUnwindSafe(|| Ok(body())))
        .catch_others(|error| Err(caught(error)))
        .catch_rust_panic(|error| Err(caught(error)))
        .execute()
}

fn caught(error: CaughtError) -> Failure {
    match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => of_report(&report),
        CaughtError::RustPanic { ereport, .. } => of_report(&ereport),
    }
}

fn of_report(report: &pgrx::pg_sys::panic::ErrorReportWithLevel) -> Failure {
    Failure {
        sqlstate: failure::sqlstate(report.sql_error_code() as i32),
        message: report.message().to_owned(),
        detail: report.detail().map(str::to_owned),
        hint: report.hint().map(str::to_owned),
        context: None,
    }
}
