//! The settings (GUCs) of refold.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::CString;

static GATE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(25);
static GATE_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(200);
static IDLE_GATE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);

static DATABASE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static REBUILD_BATCH_TIME: GucSetting<i32> = GucSetting::<i32>::new(200);
static REBUILD_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);
static REBUILD_MAX_RATE: GucSetting<i32> = GucSetting::<i32>::new(0);

/// The database whose unfinished jobs the launcher resumes; `None`: all databases.
pub fn database() -> Option<String> {
    let name = DATABASE.get()?.to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}

/// Milliseconds that one transaction of a rebuild job should take.
pub fn rebuild_batch_time() -> i32 {
    REBUILD_BATCH_TIME.get()
}

/// How many workers share the replay of a large fold.
pub fn rebuild_workers() -> i32 {
    REBUILD_WORKERS.get()
}

/// Events per second that a rebuild job replays at most; 0: no limit.
pub fn rebuild_max_rate() -> i32 {
    REBUILD_MAX_RATE.get()
}

/// Milliseconds that one request for the gate may queue appends behind it.
pub fn gate_timeout() -> i32 {
    GATE_TIMEOUT.get()
}

/// How often the gate is requested before the command gives up.
pub fn gate_attempts() -> i32 {
    GATE_ATTEMPTS.get()
}

/// Milliseconds that a session may idle in a transaction that holds the gate.
pub fn idle_gate_timeout() -> i32 {
    IDLE_GATE_TIMEOUT.get()
}

/// Defines the settings; called once, when the library is loaded.
pub fn define() {
    GucRegistry::define_int_guc(
        c"refold.gate_timeout",
        c"Sets how long one request for the gate may make appends wait.",
        c"A rebuild that does not get the gate in this time withdraws, lets the appends pass and tries again.",
        &GATE_TIMEOUT,
        1,
        60_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"refold.gate_attempts",
        c"Sets how often a rebuild requests the gate before it fails with 55P03.",
        c"Before each request the rebuild waits until nobody holds the gate, blocking no one.",
        &GATE_ATTEMPTS,
        1,
        1_000_000,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"refold.idle_gate_timeout",
        c"Limits how long a session may idle in a transaction that has rebuilt a projection.",
        c"Every append waits for such a transaction's end. A shorter idle_in_transaction_session_timeout is kept; 0 sets none.",
        &IDLE_GATE_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_string_guc(
        c"refold.database",
        c"Sets the database whose unfinished rebuild jobs are resumed after a restart.",
        c"Empty: all databases. Needs refold in shared_preload_libraries.",
        &DATABASE,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"refold.rebuild_batch_time",
        c"Sets how long one transaction of a rebuild job should take.",
        c"Each transaction commits its part of the new model with its checkpoint; the number of events is adapted to this.",
        &REBUILD_BATCH_TIME,
        1,
        3_600_000,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"refold.rebuild_workers",
        c"Sets how many background workers share the replay of a rebuild job.",
        c"Only a fold's replay of many events is shared, by the hash of its keys. Each is one of max_worker_processes.",
        &REBUILD_WORKERS,
        1,
        64,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"refold.rebuild_max_rate",
        c"Limits how many events per second a rebuild job replays.",
        c"0 sets no limit.",
        &REBUILD_MAX_RATE,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::default(),
    );
}
