//! What the C files offer, and the scope in which user code runs.

use super::jsonb::RawElement;
use super::model_row::Row;
use crate::error::{Error, ForeignError, Result};
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

/// What is known about user code while it runs; laid out as in `scope.h`.
#[repr(C)]
pub struct Scope {
    projection: *const c_char,
    event_desc: pg_sys::TupleDesc,
    event: pg_sys::HeapTupleHeader,
    handler: pg_sys::Oid,
    state_type: pg_sys::Oid,
    event_type: pg_sys::Oid,
    nest_level: c_int,
    guarded: *const pg_sys::Oid,
    guarded_count: c_int,
    events_done: i64,
    batch_length: c_int,
    batch_bytes: i64,
    batch_memory: pg_sys::MemoryContext,
    batch: *mut pg_sys::ArrayBuildState,
    batch_used: i64,
    columns: pg_sys::TupleDesc,
    state_entry: *const pg_sys::TypeCacheEntry,
    last_position: i64,
}

impl Scope {
    /// A scope whose errors name the projection. The name and the descriptor must outlive its use.
    pub fn new(projection: &CStr, event_desc: pg_sys::TupleDesc) -> Self {
        Self {
            projection: projection.as_ptr(),
            event_desc,
            event: ptr::null_mut(),
            handler: pg_sys::InvalidOid,
            state_type: pg_sys::InvalidOid,
            event_type: pg_sys::InvalidOid,
            nest_level: 0,
            guarded: ptr::null(),
            guarded_count: 0,
            events_done: 0,
            batch_length: 0,
            batch_bytes: 0,
            batch_memory: ptr::null_mut(),
            batch: ptr::null_mut(),
            batch_used: 0,
            columns: ptr::null_mut(),
            state_entry: ptr::null(),
            last_position: i64::MAX,
        }
    }

    /// Names the event, a value of type `refold.event` that stays in place while the scope is in use.
    pub fn set_event(&mut self, event: Option<pg_sys::Datum>) {
        // SAFETY: the value is a composite. One that came out of a tuple has a short header, and is copied to one that
        // can be read as a tuple; any other is returned as it is.
        let header = |datum: pg_sys::Datum| unsafe { pg_sys::pg_detoast_datum(datum.cast_mut_ptr()) };
        self.event = event.map_or(ptr::null_mut(), |datum| header(datum).cast());
    }

    /// The projection's name.
    pub fn projection(&self) -> &str {
        // SAFETY: a C string that outlives the scope's use.
        unsafe { CStr::from_ptr(self.projection) }.to_str().unwrap_or_default()
    }

    /// The function that the step functions call, and the types of its arguments; `state` is InvalidOid for a
    /// per-event handler.
    pub fn set_handler(&mut self, handler: pg_sys::Oid, state: pg_sys::Oid, event: pg_sys::Oid) {
        self.handler = handler;
        self.state_type = state;
        self.event_type = event;
    }

    /// The handler is a fold, whose rows have this type.
    pub fn set_state_type(&mut self, row_type: pg_sys::Oid) {
        self.state_type = row_type;
    }

    /// The handler takes so many events at once, or fewer where they have more bytes than half of work_mem.
    pub fn set_batches(&mut self, length: c_int) {
        self.batch_length = length;
        // SAFETY: reads a setting.
        self.batch_bytes = i64::from(unsafe { pg_sys::work_mem }) * 1024 / 2;
    }

    /// Runs `hand_over`, whose statement gives events to the step function, and then `last` with the array of those that
    /// are left.
    pub fn in_batches(
        &mut self,
        hand_over: impl FnOnce(&mut Self) -> Result<()>,
        last: impl FnOnce(&mut Self, pg_sys::Datum) -> Result<()>,
    ) -> Result<()> {
        // SAFETY: the memory is a child of the current one; on an error the abort frees it with that, and the scope is
        // not used again.
        let memory = unsafe {
            refold_begin_batches(self);
            self.batch_memory
        };
        hand_over(self)?;
        // SAFETY: begun above.
        let left = unsafe { refold_last_batch(self) };
        if !left.is_null() {
            last(self, left)?;
        }
        // SAFETY: made above, and nothing of it is referred to any more.
        unsafe { pg_sys::MemoryContextDelete(memory) };
        Ok(())
    }

    /// Tables that user code must not touch; the slice must outlive the scope's use.
    pub fn guard(&mut self, tables: &[pg_sys::Oid]) {
        self.guarded = tables.as_ptr();
        self.guarded_count = tables.len() as c_int;
    }

    /// An error of refold's own as one raised in this scope: with its line of context.
    pub fn raise(&mut self, error: Error) -> Error {
        let Error::Own(report) = error else { return error };
        let text = |text: &str| CString::new(text).unwrap_or_default();
        let (message, detail, hint) =
            (text(&report.message), report.detail.as_deref().map(text), report.hint.as_deref().map(text));
        let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
        // SAFETY: the strings outlive the call, which never returns NULL.
        let raised = unsafe {
            refold_raise(report.code as c_int, message.as_ptr(), pointer(&detail), pointer(&hint), self)
        };
        Error::Foreign(ForeignError(raised))
    }

    /// How many events the step functions have handled.
    pub fn events_done(&self) -> i64 {
        self.events_done
    }

    /// Where counting starts.
    pub fn set_events_done(&mut self, done: i64) {
        self.events_done = done;
    }

    /// Up to which event the fold's step function folds; to begin with, whatever it gets.
    pub fn set_last_position(&mut self, last: i64) {
        self.last_position = last;
    }
}

// SAFETY: these match the definitions in the C files. Whatever they raise unwinds as a panic; those that return an
// `ErrorData` raise only what fails while they catch an error.
#[pgrx::pg_guard]
unsafe extern "C-unwind" {
    // In statement.c.
    pub(super) fn refold_prepare(
        sql: *const c_char,
        nargs: c_int,
        types: *mut pg_sys::Oid,
        plan: *mut pg_sys::SPIPlanPtr,
    ) -> *mut pg_sys::ErrorData;
    pub(super) fn refold_execute(
        plan: pg_sys::SPIPlanPtr,
        sql: *const c_char,
        values: *mut pg_sys::Datum,
        nulls: *const c_char,
        snapshot: pg_sys::Snapshot,
        scope: *mut Scope,
    ) -> *mut pg_sys::ErrorData;
    // In scope.c.
    pub(super) fn refold_raise(
        code: c_int,
        message: *const c_char,
        detail: *const c_char,
        hint: *const c_char,
        scope: *mut Scope,
    ) -> *mut pg_sys::ErrorData;
    pub(super) fn refold_copy_error(error: *mut pg_sys::ErrorData) -> *mut pg_sys::ErrorData;
    pub(super) fn refold_warn(message: *const c_char, detail: *const c_char, hint: *const c_char);
    fn refold_log(message: *const c_char);
    // In subtransaction.c.
    pub(super) fn refold_begin_subtransaction() -> *mut pg_sys::ErrorData;
    pub(super) fn refold_end_subtransaction(
        release: bool,
        owner: pg_sys::ResourceOwner,
    ) -> *mut pg_sys::ErrorData;
    pub(super) fn refold_lock_together(
        count: c_int,
        relations: *const pg_sys::Oid,
        modes: *const pg_sys::LOCKMODE,
        timeouts_ms: *const c_int,
        granted: *mut bool,
    ) -> *mut pg_sys::ErrorData;
    // In event_array.c.
    pub(super) fn refold_event_array(
        events: pg_sys::Datum,
        most: c_int,
        elements: *mut *mut RawElement,
    ) -> c_int;
    // In log_table.c.
    pub(super) fn refold_insert_events(
        log: pg_sys::Oid,
        triggers: *const pg_sys::Oid,
        count: c_int,
        values: *const pg_sys::Datum,
        inserted: *mut bool,
    ) -> *mut pg_sys::ErrorData;
    // In model_row.c.
    pub(super) fn refold_call_handler(
        handler: pg_sys::Oid,
        nargs: c_int,
        arguments: *const pg_sys::NullableDatum,
        is_row: bool,
        scope: *mut Scope,
        result: *mut pg_sys::NullableDatum,
        called: *mut bool,
    ) -> *mut pg_sys::ErrorData;
    pub(super) fn refold_load_row(
        row: *mut Row<'_>,
        scope: *mut Scope,
        state: *mut pg_sys::NullableDatum,
        loaded: *mut bool,
    ) -> *mut pg_sys::ErrorData;
    pub(super) fn refold_update_row(
        row: *mut Row<'_>,
        state: pg_sys::Datum,
        scope: *mut Scope,
        updated: *mut bool,
    ) -> *mut pg_sys::ErrorData;
    // In last_version.c.
    pub(super) fn refold_last_version(
        log: pg_sys::Oid,
        stream_id: pg_sys::Datum,
        at_least: i64,
        latest: bool,
    ) -> i64;
    // In replay_step.c.
    pub(super) fn refold_begin_batches(scope: *mut Scope);
    pub(super) fn refold_last_batch(scope: *mut Scope) -> pg_sys::Datum;
    // In worker.c.
    pub(super) fn refold_begin_databases() -> pg_sys::TableScanDesc;
    pub(super) fn refold_next_database(scan: pg_sys::TableScanDesc, oid: *mut pg_sys::Oid) -> *const c_char;
    // In search_path.c.
    pub(super) fn refold_path_stands_for(session: *const c_char, path: *const c_char) -> bool;
    // In storage.c.
    pub(super) fn refold_swap_storage(live: pg_sys::Oid, shadow: pg_sys::Oid);
    // In unlogged.c.
    pub(super) fn refold_make_unlogged();
    // PostgreSQL's own, missing from pgrx's bindings.
    pub(super) fn nextval_internal(sequence: pg_sys::Oid, check_permissions: bool) -> i64;
}

// SAFETY: these match their definitions too. They raise nothing, or are called where no frame of Rust has anything to
// drop: the step function, and the end of a door.
unsafe extern "C-unwind" {
    pub(super) fn refold_applies_in_parallel() -> bool;
    pub(super) fn refold_fold_step_in(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    pub(super) fn refold_fold_result_in(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    pub(super) fn refold_fold_part_step_in(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    pub(super) fn refold_count_part_in(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    pub(super) fn refold_event_step_in(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
    pub(super) fn refold_handle_signals();
    pub(super) fn refold_pid_of(backend: c_int) -> c_int;
    pub(super) fn refold_set_gate(gate: pg_sys::Oid);
    pub(super) fn refold_install_hooks();
    pub(super) fn refold_expect_no_temporary_schema(expected: bool) -> bool;
    // PostgreSQL's own, missing from pgrx's bindings.
    pub(super) fn ReThrowError(edata: *mut pg_sys::ErrorData) -> !;
    pub(super) fn hash_bytes_extended(bytes: *const u8, length: c_int, seed: u64) -> u64;
    pub(super) fn datumIsEqual(
        left: pg_sys::Datum,
        right: pg_sys::Datum,
        by_value: bool,
        length: c_int,
    ) -> bool;
    // PostgreSQL's own that only read or write a variable, or the clock: pgrx's guard takes longer than they do.
    pub(super) fn GetUserId() -> pg_sys::Oid;
    pub(super) fn GetUserIdAndSecContext(user: *mut pg_sys::Oid, context: *mut c_int);
    pub(super) fn SetUserIdAndSecContext(user: pg_sys::Oid, context: c_int);
    pub(super) fn IsInParallelMode() -> bool;
    pub(super) fn NewGUCNestLevel() -> c_int;
    pub(super) fn GetTempNamespaceState(schema: *mut pg_sys::Oid, toast_schema: *mut pg_sys::Oid);
    pub(super) fn GetCurrentTimestamp() -> pg_sys::TimestampTz;
}

/// Sends a warning to the client.
pub fn warn(message: &str, detail: &str, hint: &str) {
    let text = |text: &str| CString::new(text).unwrap_or_default();
    let (message, detail, hint) = (text(message), text(detail), text(hint));
    // SAFETY: the strings outlive the call. Not pgrx's own report: PostgreSQL checks for interrupts after it has sent a
    // message, and pgrx lets that error jump over the frames of Rust.
    unsafe { refold_warn(message.as_ptr(), detail.as_ptr(), hint.as_ptr()) }
}

/// Writes a line into the server's log; as a warning, it may raise an error.
pub(super) fn log(message: &str) {
    let message = CString::new(message).unwrap_or_default();
    // SAFETY: as for a warning.
    unsafe { refold_log(message.as_ptr()) }
}

/// Makes any other setting `refold.*` an error; called once, after refold's own are defined.
pub fn reserve_settings() {
    // SAFETY: called by _PG_init with a constant string.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"refold".as_ptr()) }
}

/// Installs the hooks; called once, when the library is loaded.
pub fn install_hooks() {
    // SAFETY: called by _PG_init, where hooks are installed.
    unsafe { refold_install_hooks() }
}
