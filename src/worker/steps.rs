//! What the worker of a job does next.

use super::batches::Batches;
use crate::error::Result;
use crate::log::watermark;
use crate::names::Position;
use crate::pg::catalog::{self, Catalog};
use crate::pg::failure::Failure;
use crate::pg::locks::{self, Holders};
use crate::pg::snapshot::Older;
use crate::pg::waitpoint::{self, Waitpoint};
use crate::pg::{background, transaction};
use crate::rebuild::SMALL_TAIL;
use crate::rebuild::job::row::{self, Job, Phase};
use crate::rebuild::job::swapping::{self, Swapped};
use crate::rebuild::job::{building, control, in_place, mirroring, parts, shadows};
use crate::settings;
use std::time::{Duration, Instant};

type Outcome<R> = std::result::Result<R, Failure>;

/// After this many watermarks the gate is asked for, however much has come meanwhile.
const MAX_PASSES: u32 = 50;
/// With more positions than this to go, a fold's replay is split among several workers.
const WORTH_SPLITTING: i64 = 100_000;
/// Milliseconds between two looks at whoever is waited for.
const PATIENCE: i64 = 20;
/// Looks between two looks at the job's row.
const LOOKS: u32 = 50;
/// Milliseconds between two looks in the grace period.
const GRACE_LOOK: i64 = 500;
/// A throttled worker looks at its job and its settings after at most this time.
const LONGEST_REST: Duration = Duration::from_millis(500);
/// So often in a row a step may fail because of what other sessions do.
const MAX_RETRIES: u32 = 20;

/// When the next step is due.
pub enum Next {
    Now,
    /// Milliseconds.
    In(i64),
    /// Never: the job has ended, or is not this worker's any more.
    End,
}

/// What a worker waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Whoever may still fill a position up to this one.
    Watermark(Position),
    /// Whoever holds the gate.
    Gate,
    /// Whoever uses the tables that are to be swapped.
    Users,
}

/// A worker and what it remembers between transactions; a new one begins where the job's row says.
pub struct Worker {
    job: Job,
    batches: Batches,
    /// Every position up to this one is committed or dead.
    last_final: Position,
    passes: u32,
    /// Whether helpers were asked for.
    helped: bool,
    /// Whether every event is replayed in a batch, so that one that fails is found, before the gate is closed.
    careful: bool,
    /// Whoever is waited for, and why.
    waiting: Option<(Reason, Holders)>,
    /// Whoever holds a snapshot older than the mirroring.
    older: Option<Older>,
    looks: u32,
    retries: u32,
    /// The batch that is at its events.
    at: Option<(Position, Position)>,
    /// The last batch, while more may not be replayed.
    pace: Option<Pace>,
}

/// When a batch began, and how many events it has replayed.
struct Pace {
    began: Instant,
    events: i64,
}

impl Pace {
    /// What is left to wait so as to keep to `refold.rebuild_max_rate`, as that is set now.
    fn left(&self) -> Duration {
        match settings::rebuild_max_rate() {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(self.events as f64 / f64::from(rate))
                .saturating_sub(self.began.elapsed()),
        }
    }
}

impl Worker {
    pub fn new(job: Job) -> Self {
        Self {
            job,
            batches: Batches::new(),
            last_final: 0,
            passes: 0,
            helped: false,
            careful: false,
            waiting: None,
            older: None,
            looks: 0,
            retries: 0,
            at: None,
            pace: None,
        }
    }

    /// Does the next step, in transactions of its own.
    pub fn step(&mut self) -> Outcome<Next> {
        let next = match (self.job.phase, self.job.in_place) {
            (Phase::Preparing, false) => self.then(shadows::create)?,
            (Phase::Preparing, true) => self.then(in_place::begin)?,
            (Phase::Emptying, false) => self.then(mirroring::empty)?,
            (Phase::Emptying, true) => self.then(in_place::empty)?,
            (Phase::Building, _) => self.build()?,
            (Phase::WaitingForSnapshots, _) => self.wait_for_snapshots()?,
            (Phase::Verifying, _) => match self.transact(swapping::verify)? {
                true => Next::Now,
                false => self.begin_anew()?,
            },
            (Phase::Swapping, _) => self.swap()?,
            (Phase::Grace, _) => match self.transact(control::end_grace)? {
                true => Next::Now,
                false => Next::In(GRACE_LOOK),
            },
            (Phase::CleaningUp, _) => {
                self.transact(mirroring::clean_up)?;
                Next::End
            }
        };
        self.retries = 0;
        Ok(next)
    }

    /// Runs one transaction on the job; what it has changed counts once it is committed.
    fn transact<R>(&mut self, body: impl FnOnce(&Catalog, &mut Job) -> Result<R>) -> Outcome<R> {
        let mut job = self.job.clone();
        let result = transaction::run(|| body(&catalog::get()?, &mut job))?;
        self.job = job;
        Ok(result)
    }

    fn then(&mut self, body: impl FnOnce(&Catalog, &mut Job) -> Result<()>) -> Outcome<Next> {
        self.transact(body)?;
        Ok(Next::Now)
    }

    /// The next batch; or the end of the replay, where little is left.
    fn build(&mut self) -> Outcome<Next> {
        if let Some(rest) = self.rest_of_pace()? {
            return Ok(rest);
        }
        if matches!(self.waiting, Some((Reason::Gate, _))) {
            return self.end_build();
        }
        if self.job.parts > 0 {
            return self.build_in_parts();
        }
        if self.job.checkpoint < self.last_final {
            return self.batch();
        }
        let Some(up_to) = self.watermark()? else { return Ok(Next::In(PATIENCE)) };
        self.last_final = up_to;
        self.passes += 1;
        let left = self.last_final - self.job.checkpoint;
        if left > WORTH_SPLITTING && settings::rebuild_workers() > 1 && settings::rebuild_max_rate() == 0 {
            self.split()?;
        }
        let small = if self.careful { 0 } else { SMALL_TAIL };
        if left > small && self.passes < MAX_PASSES {
            return Ok(Next::Now);
        }
        self.end_build()
    }

    /// Lemma B: a position up to which all is final, once whoever may still fill an earlier one has ended.
    fn watermark(&mut self) -> Outcome<Option<Position>> {
        let drawn = match self.waiting {
            Some((Reason::Watermark(drawn), _)) => drawn,
            _ => transaction::run_without_snapshot(|| watermark::last_drawn(&catalog::get()?))?,
        };
        let over = self.wait_for(Reason::Watermark(drawn), |catalog| {
            Ok(Holders::find(&[catalog.positions], locks::Mode::ShareRowExclusive))
        })?;
        Ok(over.then_some(drawn))
    }

    /// The last stretch is small: politely waits for the gate, and then takes it for a moment.
    fn end_build(&mut self) -> Outcome<Next> {
        let find = |catalog: &Catalog| Ok(Holders::find(&[catalog.gate], locks::Mode::ShareRowExclusive));
        if !self.wait_for(Reason::Gate, find)? {
            return Ok(Next::In(PATIENCE));
        }
        if self.job.in_place {
            self.transact(in_place::finish)?;
            return Ok(Next::End);
        }
        self.transact(|catalog, job| building::analyze(catalog, job))?;
        let next = self.then(mirroring::begin)?;
        self.passes = 0;
        Ok(next)
    }

    /// Whether those have ended that were found when the wait for this reason began; asked again and again, and nothing
    /// is requested. Now and then shows whom it waits for, and looks whether the job is still this worker's.
    fn wait_for(&mut self, reason: Reason, find: impl FnOnce(&Catalog) -> Result<Holders>) -> Outcome<bool> {
        let begun = self.waiting.take().filter(|(begun, _)| *begun == reason);
        let mut holders = match begun {
            Some((_, holders)) => holders,
            None => {
                self.looks = 0;
                transaction::run_without_snapshot(|| find(&catalog::get()?))?
            }
        };
        let remain = transaction::run_without_snapshot(|| Ok(holders.remain()))?;
        if remain {
            self.looks += 1;
            if self.looks % LOOKS == 2 {
                let pids = holders.pids();
                self.transact(|catalog, job| job.note_waits(catalog, &pids))?;
            }
            self.waiting = Some((reason, holders));
        }
        Ok(!remain)
    }

    fn split(&mut self) -> Outcome<()> {
        let (up_to, parts) = (self.last_final, settings::rebuild_workers());
        if self.transact(|catalog, job| parts::split(catalog, job, up_to, parts))? {
            self.job.parts = parts;
        }
        Ok(())
    }

    /// The first part, then any that no helper is at; then waits for the others.
    fn build_in_parts(&mut self) -> Outcome<Next> {
        if !std::mem::replace(&mut self.helped, true) {
            super::parts::start_helpers(&self.job, self.job.parts)?;
        }
        for part in 0..self.job.parts {
            super::parts::work(&self.job, part)?;
        }
        if self.transact(parts::join)? {
            (self.job.parts, self.helped) = (0, false);
            return Ok(Next::Now);
        }
        Ok(Next::In(PATIENCE))
    }

    fn batch(&mut self) -> Outcome<Next> {
        let (checkpoint, before) = (self.job.checkpoint, self.job.events);
        let mut end = self.batches.end(checkpoint, self.last_final);
        if settings::rebuild_max_rate() > 0 {
            end = end.min(checkpoint.saturating_add(settings::rebuild_max_rate().into()));
        }
        let started = Instant::now();
        let mut at_event = false;
        let result = self.transact(|catalog, job| building::batch(catalog, job, end, &mut at_event));
        self.at = at_event.then_some((checkpoint, end));
        result?;
        let took = started.elapsed();
        let target = Duration::from_millis(settings::rebuild_batch_time().max(1) as u64);
        self.batches.succeeded(checkpoint, end, took, target);
        self.pace = Some(Pace { began: started, events: self.job.events - before });
        Ok(Next::Now)
    }

    /// A part of what is left to wait, so that another setting, and whoever takes the job away, is noticed soon.
    fn rest_of_pace(&mut self) -> Outcome<Option<Next>> {
        let left = self.pace.as_ref().map_or(Duration::ZERO, Pace::left).min(LONGEST_REST);
        if left.is_zero() {
            self.pace = None;
            return Ok(None);
        }
        self.transact(|catalog, job| job.require_own(catalog))?;
        Ok(Some(Next::In(i64::try_from(left.as_millis()).unwrap_or_default().max(1))))
    }

    fn wait_for_snapshots(&mut self) -> Outcome<Next> {
        self.looks += 1;
        let look = self.older.is_none() || self.looks.is_multiple_of(LOOKS);
        if look
            && self.transact(|catalog, job| {
                job.require_own(catalog)?;
                waitpoint::reach(Waitpoint::JobWaitsForSnapshots);
                job.mirror_has_failed(catalog)
            })?
        {
            return self.begin_anew();
        }
        let older = self.older.take();
        let (older, remain) = transaction::run_without_snapshot(|| {
            let mut older = older.unwrap_or_else(Older::find);
            let remain = older.remain();
            Ok((older, remain))
        })?;
        if !remain {
            let next = if self.job.verify { Phase::Verifying } else { Phase::Swapping };
            return self.then(|catalog, job| job.enter(catalog, next));
        }
        let pids = older.pids();
        self.older = Some(older);
        if look {
            self.transact(|catalog, job| job.note_waits(catalog, &pids))?;
        }
        Ok(Next::In(PATIENCE))
    }

    /// An append could not be applied to the shadow: the job goes back to the beginning, or pauses if that happens again
    /// and again.
    fn begin_anew(&mut self) -> Outcome<Next> {
        let goes_on = self.transact(mirroring::begin_anew)?;
        (self.last_final, self.passes, self.older, self.careful) = (0, 0, None, true);
        self.batches = Batches::new();
        Ok(if goes_on { Next::Now } else { Next::End })
    }

    fn swap(&mut self) -> Outcome<Next> {
        let job = self.job.clone();
        if !self.wait_for(Reason::Users, |catalog| swapping::users(catalog, &job))? {
            return Ok(Next::In(PATIENCE));
        }
        match self.transact(swapping::swap)? {
            Swapped::Yes => Ok(Next::Now),
            Swapped::NotYet => Ok(Next::In(i64::from(settings::gate_timeout()))),
            Swapped::MirrorFailed => self.begin_anew(),
        }
    }

    /// A step has failed: tries again where another session is the cause, looks for the event that fails alone, or
    /// leaves the job paused with the error.
    pub fn after(&mut self, failure: Failure) -> Outcome<Next> {
        let at = self.at.take();
        self.waiting = None;
        let (id, epoch) = (self.job.id, self.job.epoch);
        let now = transaction::run(|| row::find(&catalog::get()?, id))?;
        if now.is_none_or(|job| !job.running || job.epoch != epoch) {
            return Ok(Next::End);
        }
        if is_passing(&failure) && self.retries < MAX_RETRIES {
            self.retries += 1;
            return Ok(Next::In(i64::from(settings::gate_timeout())));
        }
        let position = match at {
            // A cancelled batch tells nothing of its events.
            Some((checkpoint, end)) if failure.sqlstate != CANCELLED => {
                match self.batches.failed(checkpoint, end) {
                    Some(position) => Some(position),
                    None => return Ok(Next::Now),
                }
            }
            // The last stretch was not replayed as a batch: look for the event by batches, before the gate is closed.
            None if self.job.phase == Phase::Building && !self.careful && failure.sqlstate != CANCELLED => {
                self.careful = true;
                return Ok(Next::Now);
            }
            _ => None,
        };
        background::log(&format!(
            "rebuild job {id} of projection \"{}\" is paused: {} ({})",
            self.job.projection, failure.message, failure.sqlstate
        ));
        self.transact(|catalog, job| {
            let stream =
                position.map(|position| building::stream_at(catalog, position)).transpose()?.flatten();
            let at = position.zip(stream.as_deref());
            job.pause_failed(catalog, &failure, at)
        })?;
        Ok(Next::End)
    }
}

/// The code of a cancelled statement.
pub const CANCELLED: &str = "57014";

/// Conflicts with other sessions: a serialization failure, a deadlock, a lock that was not had in time.
fn is_passing(failure: &Failure) -> bool {
    ["40001", "40P01", "55P03"].contains(&failure.sqlstate.as_str())
}
