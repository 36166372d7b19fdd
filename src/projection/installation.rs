//! Whether the store is open.
//!
//! Before an installation's first append or command a restore may write log and registry: plain inserts are accepted, and
//! not projected, for the models come with the same dump. Whoever appends or commands first adopts the restored projections
//! and opens the store; from then on plain inserts are refused. All of that under ShareRowExclusiveLock on the gate (I3),
//! so neither ever meets an append.
//!
//! That a store is open is final. So it may be remembered, and read without the gate.

use super::admission::refuse_in_handler;
use crate::error::{Error, Result};
use crate::log::watermark;
use crate::names::Position;
use crate::pg::catalog::{self, Catalog};
use crate::pg::{call, identity, locks, process, sequence, snapshot, spi};
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    /// The gate of the store that is known to be open, by a transaction that has committed.
    static OPEN: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
    static WRITING: Cell<bool> = const { Cell::new(false) };
    static RESTORING: Cell<Option<Restoring>> = const { Cell::new(None) };
}

/// A statement that restores events.
#[derive(Clone, Copy)]
struct Restoring {
    /// When its transaction began.
    began: i64,
    /// The last position drawn before it.
    drawn: Position,
}

/// While it lives, refold itself inserts into the registry.
pub struct Writing(bool);

impl Writing {
    pub fn begin() -> Self {
        Self(WRITING.replace(true))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.set(self.0);
    }
}

#[derive(PartialEq, Eq)]
enum State {
    /// A restore may write.
    New,
    /// pg_upgrade has brought it here: functions have other OIDs.
    Upgraded,
    Open,
}

/// The newest state.
fn state(catalog: &Catalog) -> Result<State> {
    const SQL: &str = "SELECT i.opened_on FROM refold.installation AS i";
    let opened_on: Option<i64> = identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[], spi::Snapshot::Latest, |rows| Ok(rows.get(0, 0)))
    })?;
    Ok(match opened_on {
        None => State::New,
        Some(cluster) if cluster != catalog::cluster() => State::Upgraded,
        Some(_) => State::Open,
    })
}

/// Opens the store if it is not. Called before a command or append takes any lock: who waits here holds no
/// RowExclusiveLock on the gate that another first append would wait for.
pub fn require_open() -> Result<()> {
    let catalog = catalog::get()?;
    if OPEN.get() == catalog.gate {
        return Ok(());
    }
    if state(&catalog)? != State::Open {
        snapshot::require_writable("open the store")?;
        return with_gate_closed(|catalog, state| match state {
            State::Open => Ok(Gate::GiveBack),
            State::New | State::Upgraded => open(catalog).map(|()| Gate::Keep),
        });
    }
    remember_open(&catalog);
    Ok(())
}

/// For a store that was found open. Whoever sees what this transaction has not committed yet still has the gate closed.
fn remember_open(catalog: &Catalog) {
    if !locks::holds(catalog.gate, locks::Mode::ShareRowExclusive) {
        OPEN.set(catalog.gate);
    }
}

/// What becomes of the gate after [`with_gate_closed`].
enum Gate {
    Keep,
    GiveBack,
}

/// I3: takes ShareRowExclusiveLock on the gate, afresh, and runs `body` with the state as it is under the lock.
fn with_gate_closed(body: impl FnOnce(&Catalog, State) -> Result<Gate>) -> Result<()> {
    let catalog = loop {
        let catalog = catalog::get()?;
        locks::lock_relation(catalog.gate, locks::Mode::ShareRowExclusive);
        // The extension may have been made anew meanwhile.
        let locked = catalog::get()?;
        if locked.gate == catalog.gate {
            break locked;
        }
    };
    if let Gate::GiveBack = body(&catalog, state(&catalog)?)? {
        locks::unlock_relation(catalog.gate, locks::Mode::ShareRowExclusive);
    }
    Ok(())
}

/// Adopts all projections under the OIDs that their functions and owners have here, and opens the store. The newest
/// snapshot, whatever the isolation level: an older one would not see what to adopt.
fn open(catalog: &Catalog) -> Result<()> {
    const ADOPT: &str = "UPDATE refold.projection AS p SET handler = r.handler, key = r.key, owner = r.owner, \
        installation = i.installation_id FROM refold._projection AS r, refold.installation AS i \
        WHERE r.projection_id = p.projection_id";
    const NUMBER: &str = "SELECT setval('refold.projection_projection_id_seq', m.last) \
        FROM (SELECT max(p.projection_id) AS last FROM refold.projection AS p) AS m, refold.projection_projection_id_seq AS s \
        WHERE m.last > s.last_value";
    // Jobs are not dumped, but pg_upgrade keeps them. Nothing tells which function their handler was.
    const STOP_JOBS: &str = "UPDATE refold.rebuild_job AS j SET state = 'paused', epoch = j.epoch + 1, handler = 0, \
        mirror_handler = CASE WHEN j.mirror_handler IS NOT NULL THEN 0::oid END, error_sqlstate = '55000', \
        error_message = 'the cluster was upgraded while the job was open' WHERE j.state IN ('running', 'paused')";
    const OPEN: &str = "UPDATE refold.installation AS i SET opened_on = refold._cluster(), opened_at = clock_timestamp(), \
        final_position = $1";
    identity::as_refold_pinned(catalog.owner, || {
        for sql in [ADOPT, NUMBER, STOP_JOBS] {
            spi::query_once(sql, &[], spi::Snapshot::Latest, |_| Ok(()))?;
        }
        // Lemma A: with the gate closed, every position that was drawn or restored is committed or dead.
        let last = follow_restored_positions(catalog)?;
        spi::query_once(OPEN, &[spi::arg(last)], spi::Snapshot::Latest, |_| Ok(()))?;
        warn_of_lost()
    })
}

/// Draws go on after the last restored position, which is returned. Called with the gate closed.
fn follow_restored_positions(catalog: &Catalog) -> Result<Position> {
    const SQL: &str = "SELECT setval('refold.event_position_seq', m.last) \
        FROM (SELECT max(e.position) AS last FROM refold.event AS e) AS m WHERE m.last > $1";
    let drawn = [spi::arg(sequence::last_drawn(catalog.positions))];
    spi::query_once(SQL, &drawn, spi::Snapshot::Latest, |_| Ok(()))?;
    Ok(sequence::last_drawn(catalog.positions))
}

/// Appends fail on these until they are rebuilt or dropped: better said at once.
fn warn_of_lost() -> Result<()> {
    const SQL: &str = "SELECT string_agg(quote_ident(p.name), ', ' ORDER BY p.name) FROM refold.projections AS p \
        WHERE p.state = 'broken'";
    let lost: Option<String> = spi::query_once(SQL, &[], spi::Snapshot::Latest, |rows| Ok(rows.get(0, 0)))?;
    if let Some(lost) = lost {
        call::warn(
            &format!("broken projections: {lost}"),
            "Their handler, key function, owner or a table was not found here; appends of their events will fail.",
            "Bring back what is missing and use refold.rebuild_projection, or refold.drop_projection.",
        );
    }
    Ok(())
}

/// Admits a restore's insert into the log, or refuses: I1 and I2. With the gate closed no append is under way, and none
/// begins before the restore's transaction has ended.
pub fn admit_event() -> Result<()> {
    refuse_in_handler("insert into the log")?;
    admit(
        Error::not_allowed("rows cannot be inserted into refold.event directly")
            .hint("Use refold.append_event or refold.append_events."),
    )?;
    let drawn = sequence::last_drawn(catalog::get()?.positions);
    RESTORING.set(Some(Restoring { began: process::transaction_start(), drawn }));
    Ok(())
}

/// Whether a statement that restores events is under way. One that has failed leaves its mark, but what follows in the same
/// transaction are statements, and they are admitted each by itself.
pub fn is_restoring() -> bool {
    RESTORING.get().is_some_and(|restoring| restoring.began == process::transaction_start())
}

/// 55000 for a row of the registry that logical replication brings: it is true of the publisher's database only. What
/// refold itself writes there, for a replicated event or for an append of a trigger on another table, is not replicated.
pub fn refuse_replicated() -> Result<()> {
    if identity::is_refold() || !process::is_logical_worker() {
        return Ok(());
    }
    Err(Error::wrong_state("refold's registry must not be replicated")
        .detail("It has the object numbers, jobs and state of the publisher's database.")
        .hint("Publish refold.event and the read models by name: not FOR ALL TABLES, and not the schema refold."))
}

/// The same for an insert into the registry that is not refold's own.
pub fn admit_registry() -> Result<()> {
    if WRITING.get() {
        return Ok(());
    }
    admit(
        Error::not_allowed("rows cannot be inserted into refold's registry directly")
            .hint("Use refold.create_projection."),
    )
}

fn admit(refusal: Error) -> Result<()> {
    let refusal =
        refusal.detail("Only a restore may, into a database in which refold has not been used yet.");
    // Asked before the gate is: a refused insert must not make appends wait.
    if state(&catalog::get()?)? != State::New {
        return Err(refusal);
    }
    with_gate_closed(|_, state| if state == State::New { Ok(Gate::Keep) } else { Err(refusal) })
}

/// A position up to which a snapshot taken after this call sees all there will ever be. `None` where the store is not open,
/// as the caller's snapshot sees it: a restore may fill any gap, and horizons tell nothing, they come from another cluster.
pub fn final_position(catalog: &Catalog) -> Result<Option<Position>> {
    if OPEN.get() != catalog.gate {
        match state(catalog)? {
            State::New => return Ok(None),
            State::Upgraded => {}
            State::Open => remember_open(catalog),
        }
    }
    match watermark::final_now(catalog)? {
        Some(position) => Ok(Some(position)),
        None => final_when_opened(catalog),
    }
}

/// The position up to which all were final when the store was opened. A snapshot that sees the store open sees everything
/// restored before.
fn final_when_opened(catalog: &Catalog) -> Result<Option<Position>> {
    const SQL: &str =
        "SELECT CASE WHEN i.opened_on IS NOT NULL THEN i.final_position END FROM refold.installation AS i";
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[], spi::Snapshot::Command, |rows| Ok(rows.get(0, 0)))
    })
}

/// After a restore's insert into the log: positions go on behind it. XX001 if nobody has admitted it. 55000 where logical
/// replication copies a log without its positions: the rows come in any order, and would get theirs by it.
pub fn event_restored() -> Result<()> {
    let restoring = RESTORING.take();
    let catalog = catalog::get()?;
    if !locks::holds(catalog.gate, locks::Mode::ShareRowExclusive) {
        return Err(Error::damaged("the log's trigger fired without an append"));
    }
    let has_drawn = |before: Restoring| before.drawn != sequence::last_drawn(catalog.positions);
    if process::is_logical_worker() && restoring.is_some_and(has_drawn) {
        return Err(Error::wrong_state("events must be copied with their positions")
            .detail("The rows of a table are copied in any order: those of a stream could change places.")
            .hint("Publish all columns of refold.event."));
    }
    identity::as_refold_pinned(catalog.owner, || follow_restored_positions(&catalog).map(drop))
}
