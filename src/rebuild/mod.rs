//! The atomic rebuild: one engine that also creates and verifies.
//!
//! `copy` makes the tables that a rebuild fills, `replay` fills them, `gate` closes the gate without making appends
//! wait long, `merge` makes the live tables equal to the copies, `verify` compares instead. `job` has
//! what a background worker does instead, in many transactions, with a `shadow`: tables that outlive a transaction and
//! whose storage is exchanged with the live ones'.

mod copy;
mod definition;
mod destination;
mod fold_sql;
mod gate;
pub mod job;
mod key;
mod merge;
mod parallel;
mod replay;
mod shadow;
mod swappable;
mod verify;
mod window;

pub use gate::lock_gate;
pub use key::rebuild_key;
pub use shadow::step as shadow_step;
pub use verify::verify;

use crate::error::{Error, Result};
use crate::log::watermark;
use crate::names::Position;
use crate::pg::catalog::Catalog;
use crate::pg::progress::{Kind, Phase, Progress};
use crate::pg::waitpoint::{self, Waitpoint};
use crate::pg::{call, identity, latch, locks, snapshot, spi};
use crate::projection::check::{self, Checked, Request};
use crate::projection::registry::{self, Built, Mode, Projection};
use copy::Copy;
use pgrx::pg_sys;
use replay::Replay;
use std::time::{Duration, Instant};

/// With at most this many positions to go, the gate is asked for.
pub const SMALL_TAIL: Position = 500;
/// A job's worker holds the rebuild lock for a moment where it begins and ends; who rebuilds or verifies, much longer.
const LOCK_TRIES: u32 = 15;
/// Milliseconds between two tries.
const LOCK_PAUSE: i64 = 10;
/// More passes than this do not make the tail smaller: appends are as fast as the replay.
const MAX_PASSES: usize = 10;

/// What a rebuild did.
pub struct Report {
    pub projection: String,
    pub generation: i64,
    pub events_replayed: i64,
    pub events_under_gate: i64,
    pub rows: merge::Rows,
    pub gate_attempts: i32,
    pub gate_held: Duration,
    pub duration: Duration,
}

/// 25001 unless each command of the transaction takes a new snapshot.
pub fn require_read_committed(command: &str) -> Result<()> {
    if !snapshot::keeps_one_snapshot() {
        return Ok(());
    }
    Err(Error::new(
        pgrx::PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
        format!("{command} must run in a READ COMMITTED transaction"),
    )
    .detail("A transaction that keeps one snapshot cannot see the events that are appended meanwhile.")
    .hint("Use BEGIN ISOLATION LEVEL READ COMMITTED."))
}

/// Takes the lock that a projection's rebuild, verification and removal exclude each other by: 55006 if another
/// session keeps it. Returns the projection as it is under the lock.
fn lock_projection(catalog: &Catalog, name: &str) -> Result<Projection> {
    let mut tries = 0;
    loop {
        let found = registry::find(catalog, name)?;
        if !locks::try_lock_key(locks::Domain::Rebuild, found.id as u64) {
            tries += 1;
            if tries == LOCK_TRIES {
                return Err(in_progress(&found)?);
            }
            latch::sleep(LOCK_PAUSE);
            continue;
        }
        // Another of the same name may have taken its place before the lock was had.
        let locked = registry::find(catalog, name)?;
        if locked.id == found.id {
            return Ok(locked);
        }
    }
}

fn in_progress(projection: &Projection) -> Result<Error> {
    let error = Error::in_use(format!("projection \"{}\" is being rebuilt or verified", projection.name));
    Ok(match locks::key_holder(locks::Domain::Rebuild, projection.id as u64)? {
        Some(pid) => error.detail(format!("Process {pid} does so.")),
        None => error,
    }
    .hint("The view refold.rebuild_progress shows how far it is."))
}

/// 55006 if the caller holds a lock on a live table that appends, which hold the gate, would wait for.
fn require_weak_locks(catalog: &Catalog, projection: &Projection) -> Result<()> {
    if gate::is_closed(catalog) || !projection.tables.iter().any(|&table| locks::holds_strong(table)) {
        return Ok(());
    }
    Err(Error::in_use(format!("this transaction has locked a table of projection \"{}\"", projection.name))
        .detail("An append waits for the table and holds the gate; the rebuild would wait for the gate: a deadlock.")
        .hint("Alter the table in a transaction of its own before, or call refold.lock_gate() first (appends wait)."))
}

/// As [`lock_projection`], and keeps the live tables from being altered or dropped until the transaction ends. Returns
/// the projection as it is from then on.
fn lock_with_tables(catalog: &Catalog, name: &str) -> Result<Projection> {
    for &table in &lock_projection(catalog, name)?.tables {
        locks::lock_relation(table, locks::Mode::AccessShare);
    }
    registry::find(catalog, name)
}

/// Builds a projection's model anew, with a new handler if one is given.
pub fn rebuild(catalog: &Catalog, name: &str, handler: Option<pg_sys::Oid>) -> Result<Report> {
    let started = Instant::now();
    let projection = lock_with_tables(catalog, name)?;
    waitpoint::reach(Waitpoint::RebuildLocked);
    job::control::require_none(catalog, &projection)?;
    require_weak_locks(catalog, &projection)?;
    let checked = check::rebuilt_projection(catalog, projection, handler)?;
    build(catalog, &checked, started, |built| registry::bump(catalog, &checked, built))
}

/// Creates a projection and builds its model: a rebuild from an empty one.
pub fn create(catalog: &Catalog, request: Request) -> Result<Report> {
    let started = Instant::now();
    registry::require_unknown(catalog, &request.name)?;
    let checked = check::new_projection(catalog, request)?;
    build(catalog, &checked, started, |built| registry::insert(catalog, &checked, built))
}

/// Creates a projection whose model is to be built later, by a job: appends skip it until then.
pub fn create_unbuilt(catalog: &Catalog, request: Request) -> Result<Report> {
    let started = Instant::now();
    registry::require_unknown(catalog, &request.name)?;
    let mut checked = check::new_projection(catalog, request)?;
    checked.projection.mode = Mode::Skipping;
    let closed = gate::close(catalog, &checked.projection.tables, &mut gate::Patience)?;
    let generation = registry::insert(
        catalog,
        &checked,
        Built { events: 0, duration: started.elapsed(), fingerprint: checked.fingerprint() },
    )?;
    gate::limit_idling()?;
    Ok(Report {
        projection: checked.projection.name.clone(),
        generation,
        events_replayed: 0,
        events_under_gate: 0,
        rows: merge::Rows::default(),
        gate_attempts: closed.attempts,
        gate_held: closed.since.elapsed(),
        duration: started.elapsed(),
    })
}

/// Removes a projection; its tables stay.
pub fn drop_projection(catalog: &Catalog, name: &str) -> Result<()> {
    let projection = lock_projection(catalog, name)?;
    job::control::require_none(catalog, &projection)?;
    let orphaned = projection.owner == pg_sys::InvalidOid;
    if !orphaned && !identity::has_rights_of(projection.owner) {
        return Err(Error::not_allowed(format!("must be owner of projection \"{name}\"")));
    }
    gate::close(catalog, &[], &mut gate::Patience)?;
    registry::remove(catalog, projection.id)?;
    waitpoint::reach(Waitpoint::DropRemoved);
    gate::limit_idling()
}

/// From the empty copy to the cut-over; `flip` writes the registry under the gate and returns the generation.
fn build(
    catalog: &Catalog,
    checked: &Checked,
    started: Instant,
    flip: impl FnOnce(Built) -> Result<i64>,
) -> Result<Report> {
    gate::require_no_append(catalog)?;
    let progress = Progress::start(catalog.gate, checked.projection.id.into(), Kind::Rebuild);
    let copy = Copy::create(catalog, &checked.projection)?;
    waitpoint::reach(Waitpoint::BuildCopyCreated);
    let mut replay = Replay::new(catalog, checked, &copy.to, progress, spi::Snapshot::Command);

    // Lemma B: what is replayed is final, and nobody waits for it. With the gate closed already, Lemma A: no wait.
    replay.progress.phase(Phase::WaitingForAppends);
    let appends_wait = gate::is_closed(catalog);
    let drawn =
        if appends_wait { watermark::last_drawn(catalog)? } else { watermark::wait_for_final(catalog)? };
    if appends_wait && drawn > SMALL_TAIL {
        warn_of_stall(&checked.projection.name);
    }
    replay.all(drawn)?;
    waitpoint::reach(Waitpoint::BuildReplayed);
    let closed = gate::close(catalog, &checked.projection.tables, &mut replay)?;
    waitpoint::reach(Waitpoint::BuildGateClosed);
    // Lemma A: with the gate closed, every position that was drawn is visible or dead.
    replay.progress.phase(Phase::Merging);
    let before = replay.events();
    replay.tail(watermark::last_drawn(catalog)?)?;
    waitpoint::reach(Waitpoint::BuildTailReplayed);
    let events = replay.events();
    check::recheck_tables(catalog, &checked.projection)?;
    let rows = merge::merge(catalog, &checked.projection, &copy)?;
    waitpoint::reach(Waitpoint::BuildMerged);
    copy.require_names_unchanged(catalog)?;
    checked.require_unchanged(catalog)?;
    let generation = flip(Built { events, duration: started.elapsed(), fingerprint: checked.fingerprint() })?;
    waitpoint::reach(Waitpoint::BuildFlipped);
    copy.drop(catalog)?;
    gate::limit_idling()?;
    replay.finish();
    waitpoint::reach(Waitpoint::BuildReturning);
    Ok(Report {
        projection: checked.projection.name.clone(),
        generation,
        events_replayed: events,
        events_under_gate: events - before,
        rows,
        gate_attempts: closed.attempts,
        gate_held: closed.since.elapsed(),
        duration: started.elapsed(),
    })
}

fn warn_of_stall(projection: &str) {
    call::warn(
        &format!("appends wait while the model of projection \"{projection}\" is built"),
        "This transaction has closed the gate already.",
        "Build each projection in a transaction of its own; after a restore, call refold.open_store() before.",
    );
}
