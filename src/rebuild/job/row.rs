//! A job's row: how far it is, and whose it is.
//!
//! Whoever writes the row names the epoch in which it took the job: a worker that was presumed dead, or whose job was
//! paused or cancelled meanwhile, writes nothing, and the transaction that would have written is undone.

use crate::error::{Error, Result};
use crate::log::watermark;
use crate::names::Position;
use crate::pg::catalog::Catalog;
use crate::pg::failure::Failure;
use crate::pg::{identity, process, spi};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::time::Duration;

/// What a job does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Makes the shadow; in place, makes appends skip the projection.
    Preparing,
    /// In place: deletes the rows of the live tables.
    Emptying,
    /// Replays the log, batch by batch.
    Building,
    /// Appends keep the shadow up; older snapshots must end.
    WaitingForSnapshots,
    Verifying,
    Swapping,
    /// The new model is live, the old one is kept up.
    Grace,
    /// Appends have forgotten the shadow, which goes.
    CleaningUp,
}

impl Phase {
    /// The word for it in `refold.rebuild_job`.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Preparing => "preparing",
            Phase::Emptying => "emptying",
            Phase::Building => "building",
            Phase::WaitingForSnapshots => "waiting for snapshots",
            Phase::Verifying => "verifying",
            Phase::Swapping => "swapping",
            Phase::Grace => "grace",
            Phase::CleaningUp => "cleaning up",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        [
            Phase::Preparing,
            Phase::Emptying,
            Phase::Building,
            Phase::WaitingForSnapshots,
            Phase::Verifying,
            Phase::Swapping,
            Phase::Grace,
            Phase::CleaningUp,
        ]
        .into_iter()
        .find(|phase| phase.as_str() == text)
        .ok_or_else(|| Error::damaged(format!("unknown phase of a rebuild job \"{text}\"")))
    }
}

/// One job that is not done or cancelled.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: i64,
    pub projection: String,
    pub projection_id: i32,
    pub in_place: bool,
    pub verify: bool,
    pub running: bool,
    pub phase: Phase,
    pub epoch: i64,
    /// Events up to this position are in the model that is being built.
    pub checkpoint: Position,
    pub events: i64,
    pub handler: pg_sys::Oid,
    pub fingerprint: String,
    pub owner: pg_sys::Oid,
    pub gate_attempts: i32,
    /// How many parts the replay is split into; 0: it is not.
    pub parts: i32,
    /// Of the live tables, when the shadow was made.
    pub definition: Option<String>,
}

/// So often a job begins anew because an append could not be applied to the shadow.
const MAX_ROUNDS: i32 = 3;

const LOAD: &str = "SELECT j.job_id, p.name, j.projection_id, j.in_place, j.verify, j.state = 'running', j.phase, j.epoch, \
      j.checkpoint, j.events, j.handler, j.fingerprint, j.owner, j.gate_attempts, j.definition, \
      (SELECT count(*)::int FROM refold.rebuild_part AS t WHERE t.job_id = j.job_id) \
    FROM refold.rebuild_job AS j JOIN refold.projection AS p USING (projection_id) \
    WHERE j.state IN ('running', 'paused')";

fn read(rows: &spi::Rows<'_>, row: usize) -> Result<Job> {
    Ok(Job {
        id: rows.need(row, 0)?,
        projection: rows.need(row, 1)?,
        projection_id: rows.need(row, 2)?,
        in_place: rows.need(row, 3)?,
        verify: rows.need(row, 4)?,
        running: rows.need(row, 5)?,
        phase: Phase::parse(&rows.need::<String>(row, 6)?)?,
        epoch: rows.need(row, 7)?,
        checkpoint: rows.need(row, 8)?,
        events: rows.need(row, 9)?,
        handler: rows.need(row, 10)?,
        fingerprint: rows.need(row, 11)?,
        owner: rows.need(row, 12)?,
        gate_attempts: rows.need(row, 13)?,
        definition: rows.get(row, 14),
        parts: rows.need(row, 15)?,
    })
}

fn one(catalog: &Catalog, condition: &str, args: &[spi::TypedArg]) -> Result<Option<Job>> {
    let sql = format!("{LOAD} AND {condition}");
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(&sql, args, spi::Snapshot::Latest, |rows| {
            (rows.len() > 0).then(|| read(rows, 0)).transpose()
        })
    })
}

/// The open job with this id, as the newest snapshot sees it.
pub fn find(catalog: &Catalog, job: i64) -> Result<Option<Job>> {
    one(catalog, "j.job_id = $1", &[spi::arg(job)])
}

/// The open job of a projection, as the newest snapshot sees it.
pub fn of_projection(catalog: &Catalog, projection: i32) -> Result<Option<Job>> {
    one(catalog, "j.projection_id = $1", &[spi::arg(projection)])
}

/// The state of a job, open or not; `None` where there is none.
pub fn outcome(catalog: &Catalog, job: i64) -> Result<Option<String>> {
    const SQL: &str = "SELECT j.state FROM refold.rebuild_job AS j WHERE j.job_id = $1";
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[spi::arg(job)], spi::Snapshot::Latest, |rows| Ok(rows.get(0, 0)))
    })
}

/// The error that has paused a job, in words.
pub fn error_of(catalog: &Catalog, job: i64) -> Result<Option<String>> {
    const SQL: &str = "SELECT format('%s: %s', j.error_sqlstate, j.error_message) \
        || CASE WHEN j.error_position IS NOT NULL \
             THEN format(' (position %s, stream \"%s\")', j.error_position, j.error_stream_id) ELSE '' END \
        FROM refold.rebuild_job AS j WHERE j.job_id = $1";
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[spi::arg(job)], spi::Snapshot::Latest, |rows| Ok(rows.get(0, 0)))
    })
}

/// What a caller of `start_rebuild` asks for.
pub struct Request {
    pub in_place: bool,
    pub verify: bool,
    /// An interval.
    pub grace: pg_sys::Datum,
}

/// Writes a new job; returns its id.
pub fn insert(
    catalog: &Catalog,
    projection: i32,
    owner: pg_sys::Oid,
    handler: pg_sys::Oid,
    fingerprint: &str,
    request: &Request,
) -> Result<i64> {
    const SQL: &str = "INSERT INTO refold.rebuild_job (projection_id, in_place, verify, grace, handler, fingerprint, owner, \
          started_by, total) VALUES ($1, $2, $3, $4, $5, $6, $7, session_user, $8) RETURNING job_id";
    let args = [
        spi::arg(projection),
        spi::arg(request.in_place),
        spi::arg(request.verify),
        (pg_sys::INTERVALOID, Some(request.grace)),
        spi::arg(handler),
        spi::arg(fingerprint),
        spi::arg(owner),
        spi::arg(watermark::last_drawn(catalog)?),
    ];
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &args, spi::Snapshot::Command, |rows| rows.need(0, 0))
    })
}

/// The error of a writer whose job is not its own any more. Nobody sees it: the worker ends.
fn fenced(job: &Job) -> Error {
    Error::new(
        PgSqlErrorCode::ERRCODE_OPERATOR_INTERVENTION,
        format!("rebuild job {} has another owner", job.id),
    )
}

impl Job {
    /// Takes a running job for this process, in an epoch of its own. `None` if it is not running.
    pub fn take(catalog: &Catalog, job: i64) -> Result<Option<Self>> {
        const SQL: &str = "UPDATE refold.rebuild_job AS j SET epoch = j.epoch + 1, worker = $2, waits_for = '{}', \
            heartbeat = clock_timestamp(), run_started_at = clock_timestamp(), run_started_events = j.events \
            WHERE j.job_id = $1 AND j.state = 'running'";
        identity::as_refold_pinned(catalog.owner, || {
            let args = [spi::arg(job), spi::arg(process::id())];
            spi::query_once(SQL, &args, spi::Snapshot::Command, |_| Ok(()))
        })?;
        Ok(find(catalog, job)?.filter(|job| job.running))
    }

    /// Writes assignments to the row, if the job is still running in this epoch; else the transaction must end.
    fn write(&self, catalog: &Catalog, assignments: &str, args: &[spi::TypedArg]) -> Result<()> {
        let sql = format!(
            "UPDATE refold.rebuild_job AS j SET heartbeat = clock_timestamp(), {assignments} \
             WHERE j.job_id = $1 AND j.epoch = $2 AND j.state = 'running' RETURNING true"
        );
        let args = [&[spi::arg(self.id), spi::arg(self.epoch)], args].concat();
        let written = identity::as_refold_pinned(catalog.owner, || {
            spi::query_once(&sql, &args, spi::Snapshot::Command, |rows| Ok(rows.len()))
        })?;
        if written == 1 { Ok(()) } else { Err(fenced(self)) }
    }

    /// Whether the job is still this worker's; an error otherwise.
    pub fn require_own(&self, catalog: &Catalog) -> Result<()> {
        match find(catalog, self.id)? {
            Some(now) if now.running && now.epoch == self.epoch => Ok(()),
            _ => Err(fenced(self)),
        }
    }

    /// Notes what this transaction has replayed: it commits with it, or not at all.
    pub fn advance(
        &mut self,
        catalog: &Catalog,
        checkpoint: Position,
        events: i64,
        total: Position,
    ) -> Result<()> {
        let args = [spi::arg(checkpoint), spi::arg(events), spi::arg(total)];
        self.write(catalog, "checkpoint = $3, events = $4, total = $5, waits_for = '{}'", &args)?;
        (self.checkpoint, self.events) = (checkpoint, events);
        Ok(())
    }

    /// Goes to the next phase.
    pub fn enter(&mut self, catalog: &Catalog, phase: Phase) -> Result<()> {
        self.write(catalog, "phase = $3, waits_for = '{}'", &[spi::arg(phase.as_str())])?;
        self.phase = phase;
        Ok(())
    }

    /// What appends apply to the shadow from now on.
    pub fn set_mirror(&self, catalog: &Catalog, handler: pg_sys::Oid) -> Result<()> {
        self.write(catalog, "mirror_handler = $3", &[spi::arg(handler)])
    }

    /// The definition that the live tables had when the shadow was made.
    pub fn set_definition(&mut self, catalog: &Catalog, definition: String) -> Result<()> {
        self.write(catalog, "definition = $3", &[spi::arg(definition.as_str())])?;
        self.definition = Some(definition);
        Ok(())
    }

    /// Shows how often the gate or the tables were asked for.
    pub fn note_attempts(&mut self, catalog: &Catalog, attempts: i32) -> Result<()> {
        self.gate_attempts += attempts;
        self.write(catalog, "gate_attempts = $3", &[spi::arg(self.gate_attempts)])
    }

    /// Shows whom the job waits for.
    pub fn note_waits(&self, catalog: &Catalog, pids: &[i32]) -> Result<()> {
        self.write(catalog, "waits_for = $3", &[spi::arg(pids.to_vec())])
    }

    /// How long ago the job was started.
    pub fn age(&self, catalog: &Catalog) -> Result<Duration> {
        const SQL: &str = "SELECT extract(epoch FROM clock_timestamp() - j.started_at)::float8 FROM refold.rebuild_job AS j \
            WHERE j.job_id = $1";
        let seconds: f64 = identity::as_refold_pinned(catalog.owner, || {
            spi::query_once(SQL, &[spi::arg(self.id)], spi::Snapshot::Latest, |rows| rows.need(0, 0))
        })?;
        Ok(Duration::from_secs_f64(seconds.max(0.0)))
    }

    /// Starts the grace period; returns whether there is any. `old` is the old handler, and the definition by which the
    /// old model was built.
    pub fn begin_grace(&mut self, catalog: &Catalog, old: (pg_sys::Oid, &str)) -> Result<bool> {
        const SQL: &str = "SELECT j.grace > '0' FROM refold.rebuild_job AS j WHERE j.job_id = $1";
        let grace: bool = identity::as_refold_pinned(catalog.owner, || {
            spi::query_once(SQL, &[spi::arg(self.id)], spi::Snapshot::Latest, |rows| rows.need(0, 0))
        })?;
        if grace {
            let set = "grace_until = clock_timestamp() + j.grace, mirror_handler = $3, old_fingerprint = $4";
            self.write(catalog, set, &[spi::arg(old.0), spi::arg(old.1)])?;
        }
        Ok(grace)
    }

    /// The definition by which the old model, which the grace period keeps up, was built.
    pub fn old_fingerprint(&self, catalog: &Catalog) -> Result<String> {
        const SQL: &str = "SELECT j.old_fingerprint FROM refold.rebuild_job AS j WHERE j.job_id = $1";
        identity::as_refold_pinned(catalog.owner, || {
            spi::query_once(SQL, &[spi::arg(self.id)], spi::Snapshot::Latest, |rows| rows.need(0, 0))
        })
    }

    /// Whether the grace period is over.
    pub fn grace_is_over(&self, catalog: &Catalog) -> Result<bool> {
        const SQL: &str = "SELECT coalesce(j.grace_until <= clock_timestamp(), true) FROM refold.rebuild_job AS j \
            WHERE j.job_id = $1";
        identity::as_refold_pinned(catalog.owner, || {
            spi::query_once(SQL, &[spi::arg(self.id)], spi::Snapshot::Latest, |rows| rows.need(0, 0))
        })
    }

    /// Whether an append that has committed could not be applied to the shadow.
    pub fn mirror_has_failed(&self, catalog: &Catalog) -> Result<bool> {
        const SQL: &str = "SELECT EXISTS (SELECT FROM refold.mirror_failure AS f WHERE f.job_id = $1)";
        identity::as_refold_pinned(catalog.owner, || {
            spi::query_once(SQL, &[spi::arg(self.id)], spi::Snapshot::Latest, |rows| rows.need(0, 0))
        })
    }

    /// Back to the beginning, in the transaction that ends the mirroring under the gate, with the failure that is why.
    /// False if this is once too often: the job is paused.
    pub fn begin_anew(&mut self, catalog: &Catalog) -> Result<bool> {
        const FORGET: &str = "DELETE FROM refold.mirror_failure AS f WHERE f.job_id = $1";
        const STATE: &str = "SELECT j.state = 'running' FROM refold.rebuild_job AS j WHERE j.job_id = $1";
        let set = "phase = 'emptying', checkpoint = 0, events = 0, mirror_handler = NULL, waits_for = '{}', \
            run_started_at = clock_timestamp(), run_started_events = 0, rounds = j.rounds + 1, \
            (error_sqlstate, error_message, error_detail, error_position, error_stream_id) = ( \
              SELECT f.sqlstate, f.message, f.detail, f.position, f.stream_id FROM refold.mirror_failure AS f \
               WHERE f.job_id = j.job_id ORDER BY f.failure_id LIMIT 1), \
            state = CASE WHEN j.rounds + 1 < $3 THEN 'running' ELSE 'paused' END";
        self.write(catalog, set, &[spi::arg(MAX_ROUNDS)])?;
        (self.phase, self.checkpoint, self.events) = (Phase::Emptying, 0, 0);
        identity::as_refold_pinned(catalog.owner, || {
            let args = [spi::arg(self.id)];
            spi::query_once(FORGET, &args, spi::Snapshot::Command, |_| Ok(()))?;
            spi::query_once(STATE, &args, spi::Snapshot::Latest, |rows| rows.need(0, 0))
        })
    }

    /// The worker stops: an event, or the job itself, has failed.
    pub fn pause_failed(
        &self,
        catalog: &Catalog,
        failure: &Failure,
        at: Option<(Position, &str)>,
    ) -> Result<()> {
        let set = "state = 'paused', worker = NULL, waits_for = '{}', error_sqlstate = $3, error_message = $4, \
            error_detail = $5, error_position = $6, error_stream_id = $7";
        let args = [
            spi::arg(failure.sqlstate.as_str()),
            spi::arg(failure.message.as_str()),
            spi::arg(failure.detail.as_deref()),
            spi::arg(at.map(|at| at.0)),
            spi::arg(at.map(|at| at.1)),
        ];
        self.write(catalog, set, &args)
    }

    /// All is done.
    pub fn end(&self, catalog: &Catalog) -> Result<()> {
        let set = "state = 'done', worker = NULL, waits_for = '{}', ended_at = clock_timestamp(), error_sqlstate = NULL, \
            error_message = NULL, error_detail = NULL, error_position = NULL, error_stream_id = NULL";
        self.write(catalog, set, &[])
    }

    /// Takes the job from its worker, if it has one: whatever that has begun will not be committed. The state is
    /// 'running', 'paused', 'done' or 'cancelled'.
    pub fn take_over(&mut self, catalog: &Catalog, state: &str) -> Result<()> {
        const SQL: &str = "UPDATE refold.rebuild_job AS j SET epoch = j.epoch + 1, state = $2, worker = NULL, \
            waits_for = '{}', ended_at = CASE WHEN $2 IN ('done', 'cancelled') THEN clock_timestamp() END \
            WHERE j.job_id = $1 AND j.state IN ('running', 'paused') RETURNING j.epoch";
        let args = [spi::arg(self.id), spi::arg(state)];
        let epoch = identity::as_refold_pinned(catalog.owner, || {
            spi::query_once(SQL, &args, spi::Snapshot::Command, |rows| Ok(rows.get(0, 0)))
        })?;
        self.epoch =
            epoch.ok_or_else(|| Error::in_use(format!("rebuild job {} has ended meanwhile", self.id)))?;
        if state == "cancelled" { self.forget_parts(catalog) } else { Ok(()) }
    }

    /// The replay is not split any more.
    pub fn forget_parts(&self, catalog: &Catalog) -> Result<()> {
        const SQL: &str = "DELETE FROM refold.rebuild_part AS p WHERE p.job_id = $1";
        identity::as_refold_pinned(catalog.owner, || {
            spi::query_once(SQL, &[spi::arg(self.id)], spi::Snapshot::Command, |_| Ok(()))
        })
    }

    /// Runs again, with the handler's definition as it is now: a worker that is at it takes the job anew. Where that has changed, part of the model is another
    /// definition's: a shadow is verified before it is swapped in; live tables are built from the beginning.
    pub fn run_again(&mut self, catalog: &Catalog, fingerprint: &str) -> Result<()> {
        const SQL: &str = "UPDATE refold.rebuild_job AS j SET state = 'running', epoch = j.epoch + 1, rounds = 0, error_sqlstate = NULL, \
            error_message = NULL, error_detail = NULL, error_position = NULL, error_stream_id = NULL, fingerprint = $2, \
            verify = j.verify OR n.changed AND NOT j.in_place, \
            phase = CASE WHEN n.changed AND NOT j.in_place AND j.phase = 'swapping' THEN 'verifying' \
              WHEN n.changed AND j.in_place AND j.phase = 'building' THEN 'emptying' ELSE j.phase END, \
            checkpoint = CASE WHEN n.changed AND j.in_place THEN 0 ELSE j.checkpoint END, \
            events = CASE WHEN n.changed AND j.in_place THEN 0 ELSE j.events END \
            FROM (SELECT o.job_id, o.fingerprint <> $2 AS changed FROM refold.rebuild_job AS o) AS n \
            WHERE j.job_id = $1 AND n.job_id = j.job_id RETURNING n.changed AND j.in_place";
        let args = [spi::arg(self.id), spi::arg(fingerprint)];
        let from_the_beginning: bool = identity::as_refold_pinned(catalog.owner, || {
            spi::query_once(SQL, &args, spi::Snapshot::Command, |rows| rows.need(0, 0))
        })?;
        if from_the_beginning { self.forget_parts(catalog) } else { Ok(()) }
    }
}
