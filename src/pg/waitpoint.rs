//! Places at which a test parks a session. Without the feature `waitpoints`, which no release has, nothing is left of
//! them.
//!
//! A session that reaches a waitpoint waits for as long as another holds `pg_advisory_lock(hashtextextended(name, 0))`;
//! one that has set `refold.waitpoints` to off passes. `cargo xtask crash` parks, and kills, whoever can come to each
//! of [`ALL`]: to get a new waitpoint tested, name it here and reach it there.

#[cfg(feature = "waitpoints")]
pub use compiled_in::{define, reach};

/// Nothing.
#[cfg(not(feature = "waitpoints"))]
#[inline(always)]
pub fn reach(_: Waitpoint) {}

/// Defines the waitpoints. The word before the colon of a name says who comes there.
macro_rules! waitpoints {
    ($($waitpoint:ident = $name:literal,)+) => {
        #[derive(Clone, Copy)]
        pub enum Waitpoint {
            $($waitpoint,)+
        }

        #[cfg(feature = "waitpoints")]
        impl Waitpoint {
            fn name(self) -> &'static str {
                match self {
                    $(Self::$waitpoint => $name,)+
                }
            }
        }

        #[cfg(feature = "waitpoints")]
        const ALL: &[&str] = &[$($name),+];
    };
}

waitpoints! {
    AppendGateHeld = "append: gate held",
    AppendStreamLocked = "append: stream locked",
    AppendKeysLocked = "append: keys locked",
    AppendPositionsDrawn = "append: positions drawn",
    AppendInserted = "append: inserted",
    AppendOneApplied = "append: one projection applied",
    AppendReturning = "append: returning",
    RebuildLocked = "rebuild: projection locked",
    BuildCopyCreated = "build: copy created",
    BuildReplayed = "build: log replayed",
    GateAsked = "gate: about to be asked for",
    BuildGateClosed = "build: gate closed",
    BuildTailReplayed = "build: tail replayed",
    BuildMerged = "build: merged",
    BuildFlipped = "build: registry written",
    BuildReturning = "build: returning",
    VerifyReplayed = "verify: log replayed",
    DropRemoved = "drop: registry written",
    JobShadowCreated = "job: shadow created",
    JobGateClosed = "job: gate closed",
    JobMirrors = "job: registry written",
    JobWaitsForSnapshots = "job: waiting for snapshots",
    JobTablesWanted = "job: about to lock the tables",
    JobTablesLocked = "job: tables locked",
    JobSwapped = "job: swapped",
    JobShadowDropped = "job: shadow dropped",
    BatchReplayed = "batch: replayed",
    BatchWritten = "batch: checkpoint written",
    InPlaceSkipping = "in place: registry written",
    InPlaceEmptied = "in place: emptied",
    InPlaceGateClosed = "in place: gate closed",
    InPlaceReturning = "in place: done",
    MirrorApplied = "mirror: applied",
    SwapExchanged = "swap: storage exchanged",
}

#[cfg(feature = "waitpoints")]
mod compiled_in {
    use super::{ALL, Waitpoint};
    use crate::error::Result;
    use crate::pg::call::{Call, sql_function, value};
    use crate::pg::locks;
    use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
    use pgrx::pg_sys;

    static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);

    /// Waits while somebody holds the waitpoint's lock. Can be cancelled.
    pub fn reach(waitpoint: Waitpoint) {
        if !ENABLED.get() {
            return;
        }
        let key = locks::hash(waitpoint.name().as_bytes(), 0).cast_signed();
        // SAFETY: functions of one bigint that return void or boolean, and look at nothing else of their call; errors
        // (cancel) are guarded. The lock is given back at once, so the next to come does not wait for this session.
        unsafe {
            pgrx::direct_function_call_as_datum(
                pg_sys::pg_advisory_lock_shared_int8,
                &[pgrx::IntoDatum::into_datum(key)],
            );
            pgrx::direct_function_call_as_datum(
                pg_sys::pg_advisory_unlock_shared_int8,
                &[pgrx::IntoDatum::into_datum(key)],
            );
        }
    }

    /// Defines the setting; called once, when the library is loaded.
    pub fn define() {
        GucRegistry::define_bool_guc(
            c"refold.waitpoints",
            c"Sets whether this session waits at waitpoints.",
            c"For tests; not in a release.",
            &ENABLED,
            GucContext::Userset,
            GucFlags::default(),
        );
    }

    sql_function!(refold_waitpoints, pg_finfo_refold_waitpoints, waitpoints);

    /// All names. The install script declares no such function: a test does so for itself.
    fn waitpoints(_call: &Call) -> Result<Option<pg_sys::Datum>> {
        Ok(value(ALL.iter().map(|name| Some((*name).to_owned())).collect::<Vec<Option<String>>>()))
    }
}
