//! Background workers: starting one, and being one.

use super::failure::Failure;
use super::{latch, shim, transaction};
use crate::error::{Error, Result};
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::CStr;
use std::ptr;
use std::time::Duration;

/// A worker that this session has started, whatever becomes of the transaction that did.
pub struct Started(*mut pg_sys::BackgroundWorkerHandle);

impl Started {
    /// Whether the worker has ended, or never began.
    pub fn has_ended(&self) -> bool {
        use pg_sys::BgwHandleStatus::{BGWH_POSTMASTER_DIED, BGWH_STOPPED};
        let mut pid = 0;
        // SAFETY: the handle lives as long as self; reads shared memory.
        let status = unsafe { pg_sys::GetBackgroundWorkerPid(self.0, &raw mut pid) };
        [BGWH_STOPPED, BGWH_POSTMASTER_DIED].contains(&status)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // SAFETY: allocated in memory that lasts as long as the process, and owned by self alone.
        unsafe { pg_sys::pfree(self.0.cast()) };
    }
}

/// Asks for a worker that calls `function` of this library in the current database. 53400 if there is no room for one.
pub fn start(name: &str, function: &str, arguments: &[i64]) -> Result<Started> {
    // SAFETY: a plain variable of the backend.
    start_in(unsafe { pg_sys::MyDatabaseId }, name, function, arguments)
}

/// As [`start`], in that database.
pub fn start_in(database: pg_sys::Oid, name: &str, function: &str, arguments: &[i64]) -> Result<Started> {
    let numbers = std::iter::once(i64::from(database.to_u32())).chain(arguments.iter().copied());
    let extra: Vec<_> = numbers.map(|number| number.to_string()).collect();
    let worker = BackgroundWorkerBuilder::new(name)
        .set_type("refold rebuild")
        .set_library("refold")
        .set_function(function)
        .enable_spi_access()
        .set_extra(&extra.join(" "))
        // SAFETY: a plain variable of the backend.
        .set_notify_pid(unsafe { pg_sys::MyProcPid });
    let mut worker = pg_sys::BackgroundWorker::from(&worker);
    let mut handle = ptr::null_mut();
    // Not by the builder: it leaves the handle in the current memory, that of a transaction.
    // SAFETY: both outlive the call, which sets the handle if it returns true; an error's abort sets the memory back.
    let registered = unsafe {
        let caller = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let registered = pg_sys::RegisterDynamicBackgroundWorker(&raw mut worker, &raw mut handle);
        pg_sys::MemoryContextSwitchTo(caller);
        registered
    };
    if registered {
        return Ok(Started(handle));
    }
    Err(Error::new(PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, "no background worker is free")
        .hint("Raise max_worker_processes, or wait until another worker has ended."))
}

/// Connects this worker to its database, as a superuser without a name; returns the arguments that it was started with.
/// Signals work as in a client's session: SIGINT cancels, SIGTERM ends.
pub fn connect() -> Vec<i64> {
    let extra = BackgroundWorker::get_extra();
    let numbers: Vec<i64> = extra.split(' ').filter_map(|number| number.parse().ok()).collect();
    let database = numbers.first().and_then(|&database| u32::try_from(database).ok()).unwrap_or_default();
    // SAFETY: called once, at the start of a worker.
    unsafe {
        shim::refold_handle_signals();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database.into(), pg_sys::InvalidOid, 0);
    }
    override_settings();
    numbers.into_iter().skip(1).collect()
}

/// Connects this worker to no database: it can read what all databases share.
pub fn connect_to_none() {
    // SAFETY: called once, at the start of a worker.
    unsafe {
        shim::refold_handle_signals();
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
    }
}

/// Has the server start a worker with itself, and again ten seconds after a crash; only while it loads this library.
pub fn register_with_server(name: &str, function: &str) {
    // SAFETY: a plain variable of the process.
    if !unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        return;
    }
    BackgroundWorkerBuilder::new(name)
        .set_type("refold launcher")
        .set_library("refold")
        .set_function(function)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(10)))
        .load();
}

/// What a database's or the server's settings must not change for a worker: it relies on READ COMMITTED transactions that
/// write, and waits as long as it takes. As PostgreSQL's autovacuum does it.
fn override_settings() {
    const SETTINGS: &[(&CStr, &CStr)] = &[
        (c"default_transaction_isolation", c"read committed"),
        (c"default_transaction_read_only", c"off"),
        (c"default_transaction_deferrable", c"off"),
        (c"lock_timeout", c"0"),
        (c"statement_timeout", c"0"),
        (c"idle_in_transaction_session_timeout", c"0"),
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        (c"transaction_timeout", c"0"),
    ];
    for (name, value) in SETTINGS {
        // SAFETY: constant strings; the worker is connected.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}

/// Becomes the session of `role`, so that nothing that user code leaves behind runs as a superuser. Outside a transaction.
pub fn become_session_of(role: pg_sys::Oid) {
    // SAFETY: the worker has authenticated as a superuser; sets variables of the backend.
    unsafe { pg_sys::SetSessionAuthorization(role, false) };
}

/// Shows what the worker does in pg_stat_activity.
pub fn show(activity: &str) {
    if let Ok(text) = std::ffi::CString::new(activity) {
        // SAFETY: the text is copied.
        unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr()) };
    }
}

/// Writes a line into the server's log. A cancel that comes with it has nothing to cancel.
pub fn log(message: &str) {
    let _ = transaction::outside(|| shim::log(message));
}

/// Sleeps, and takes new settings. A cancel ends it as a failure.
pub fn rest(milliseconds: i64) -> std::result::Result<(), Failure> {
    transaction::outside(|| {
        show("idle");
        latch::sleep(milliseconds);
    })?;
    take_settings();
    Ok(())
}

/// Reads the configuration again, if the server was told to.
pub fn take_settings() {
    // SAFETY: as PostgreSQL's own workers do it, outside a transaction.
    unsafe {
        if (&raw const pg_sys::ConfigReloadPending).read_volatile() != 0 {
            (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}
