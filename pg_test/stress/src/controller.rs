//! Meddles with the jobs there are: pauses, resumes, cancels, ends and rolls back; leaves out events that have stopped
//! them; ends their workers; rebuilds single keys beside them. At the end of the load it sees to it that each job ends.

use anyhow::{Context, Result, bail, ensure};
use postgres::Client;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::job_plan::{Deed, JobPlanner, Standing};
use crate::operation::{BRITTLE, FLAW, Operation};
use crate::rebuild_plan::{HANDLERS, replacement};
use crate::rebuilder::told;
use crate::session::{Failed, Fault, OWNER, Role, Session};
use crate::shared::Shared;

/// Jobs that are still open then will never end.
const SETTLED: Duration = Duration::from_secs(60);

/// What a job may be paused by, beside deliberate errors: cancelled; conflicts that went on too long; the live tables or the
/// handler have changed; the worker was ended by a crash or an operator. 42703: a mirrored append met a live table with
/// another column than its shadow; that is told until the job, back at its beginning, finds it altered.
const KNOWN: [&str; 9] = ["57014", "40001", "40P01", "55P03", "55000", "57P01", "42703", BRITTLE, FLAW];

#[derive(Debug)]
struct Job {
    id: i64,
    projection: String,
    phase: String,
    standing: Standing,
    worker: Option<i32>,
    /// The new handler's name.
    handler: Option<String>,
    /// Where the event is that has paused it.
    error_position: i64,
    parts: i64,
}

const JOBS: &str = "
    SELECT j.job_id, p.name, j.phase, j.state, j.worker, j.error_sqlstate, f.proname::text,
           concat_ws(' ', j.error_sqlstate, j.error_message, j.error_detail, 'position ' || j.error_position),
           coalesce(j.error_position, 0), (SELECT count(*) FROM refold.rebuild_part t WHERE t.job_id = j.job_id)
    FROM refold.rebuild_job j JOIN refold.projection p USING (projection_id) LEFT JOIN pg_proc f ON f.oid = j.handler
    WHERE j.state IN ('running', 'paused') ORDER BY j.job_id";

fn jobs(session: &mut Session) -> Result<Vec<Job>> {
    let rows = session.insist(|client| client.query(JOBS, &[]))?;
    let job = |row: &postgres::Row| {
        let (id, projection, phase): (i64, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (state, error): (String, Option<String>) = (row.try_get(3)?, row.try_get(5)?);
        if let Some(code) = &error
            && !KNOWN.contains(&code.as_str())
        {
            let text: String = row.try_get(7)?;
            bail!("job {id} of {projection} is {state}, {phase}, by an error nobody expects: {text}");
        }
        let standing = match (state.as_str(), error.as_deref()) {
            ("running", _) if phase == "grace" => Standing::Grace,
            ("running", _) => Standing::Running,
            (_, Some(BRITTLE)) => Standing::Brittle,
            (_, Some("55000")) => Standing::Failed,
            _ => Standing::Paused,
        };
        let (worker, handler) = (row.try_get(4)?, row.try_get(6)?);
        let (error_position, parts) = (row.try_get(8)?, row.try_get(9)?);
        Ok(Job { id, projection, phase, standing, worker, handler, error_position, parts })
    };
    rows.iter().map(job).collect()
}

pub struct Controller<'a> {
    /// The projections' owner.
    session: Session<'a>,
    /// A superuser.
    watcher: Session<'a>,
    shared: &'a Shared,
    planner: JobPlanner,
}

impl<'a> Controller<'a> {
    pub fn open(shared: &'a Shared) -> Result<Self> {
        Ok(Self {
            session: Session::open(shared, Role::Operator, Some(OWNER))?,
            watcher: Session::open(shared, Role::Protected, None)?,
            shared,
            planner: JobPlanner::new(shared.seed, 100),
        })
    }

    pub fn run(mut self) -> Result<()> {
        while !self.shared.is_load_over() {
            thread::sleep(self.planner.pause(250));
            if self.planner.chance(0.05) {
                self.set_workers()?;
            }
            if self.planner.chance(0.3) {
                self.rebuild_key()?;
                continue;
            }
            let jobs = jobs(&mut self.watcher)?;
            // What waits for somebody comes before what goes on by itself, mostly.
            let waits = |job: &Job| matches!(job.standing, Standing::Grace | Standing::Brittle);
            let (waiting, others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(waits);
            let first = self.planner.chance(0.7) || others.is_empty();
            let from = if first && !waiting.is_empty() { waiting } else { others };
            let pick = self.planner.pick(from.len());
            let Some(job) = from.into_iter().nth(pick) else { continue };
            let deed = self.planner.next_deed(job.standing);
            let parts = if job.parts > 0 { format!(", in {} parts", job.parts) } else { String::new() };
            self.shared.stats.count_deed(&format!("jobs met {}{parts}", job.phase));
            self.perform(&job, deed)?;
        }
        Ok(())
    }

    fn perform(&mut self, job: &Job, deed: Deed) -> Result<()> {
        let from = SystemTime::now();
        let name = &job.projection;
        let outcome = match deed {
            Deed::Leave => return Ok(()),
            Deed::EndWorker | Deed::CancelWorker => self.disturb(job, deed)?,
            Deed::Mend => self.mend(job)?,
            Deed::Skip { all } => self.skip(job, all)?,
            Deed::Pause => self.control(&format!("SELECT refold.pause_rebuild('{name}')"))?,
            Deed::Resume => self.control(&format!("SELECT refold.resume_rebuild('{name}')"))?,
            Deed::Cancel => self.control(&format!("SELECT refold.cancel_rebuild('{name}')"))?,
            Deed::Finish => self.control(&format!("SELECT refold.finish_rebuild('{name}')"))?,
            // One message: one transaction.
            Deed::RollBack => self.control(&format!(
                "SELECT refold.rollback_projection('{name}'); SELECT note_rollback('{name}')"
            ))?,
        };
        self.shared.stats.count_deed(&format!("{deed:?}: {}", outcome.split(' ').next().unwrap_or_default()));
        let Job { id, phase, standing, .. } = job;
        self.shared
            .timeline
            .add(from, format!("{deed:?} job {id} of {name}, {standing:?}, {phase}: {outcome}"));
        Ok(())
    }

    fn control(&mut self, statement: &str) -> Result<String> {
        let transaction = self.planner.transaction();
        let result = execute(&mut self.session.client, statement, transaction);
        self.outcome(Operation::ControlJob, result, statement)
    }

    fn outcome(&mut self, operation: Operation, result: Result<String, Fault>, what: &str) -> Result<String> {
        match result {
            Ok(outcome) => Ok(outcome),
            Err(fault) => {
                let code = told(&fault);
                self.session.overcome(operation, fault).with_context(|| what.to_owned())?;
                Ok(code)
            }
        }
    }

    /// As the operating system or an administrator does: not by the job's own controls.
    fn disturb(&mut self, job: &Job, deed: Deed) -> Result<String> {
        let function = if deed == Deed::EndWorker { "pg_terminate_backend" } else { "pg_cancel_backend" };
        // The number may be another process's by now.
        let sql = format!(
            "SELECT {function}(a.pid) FROM pg_stat_activity a
             WHERE a.datname = current_database() AND a.backend_type LIKE 'refold%' AND (a.pid = $1 OR EXISTS (
                 SELECT FROM pg_locks l JOIN refold.shadow_table s ON s.job_id = $2 AND l.relation = s.shadow
                 WHERE l.pid = a.pid))
             ORDER BY random() LIMIT 1"
        );
        match self.watcher.client.query(&sql, &[&job.worker, &job.id]) {
            Ok(rows) => Ok(if rows.is_empty() { "nobody" } else { "done" }.to_owned()),
            Err(error) => {
                self.watcher.overcome(Operation::Watch, Fault::Sql(error))?;
                Ok("crash".to_owned())
            }
        }
    }

    /// The handler's text says the same version still.
    fn mend(&mut self, job: &Job) -> Result<String> {
        let Some(handler) = job.handler.as_deref().filter(|handler| handler.contains("_job_")) else {
            return Ok("nothing".to_owned());
        };
        let sql =
            "SELECT version FROM handler_version v JOIN pg_proc f ON f.oid = v.handler WHERE f.proname = $1";
        let rows = self.watcher.insist(|client| client.query(sql, &[&handler]))?;
        let Some(row) = rows.first() else { return Ok("nothing".to_owned()) };
        let version = u8::try_from(row.try_get::<_, i32>(0)?)?;
        let script = format!(
            "{}; SELECT refold.resume_rebuild('{}')",
            replacement(&job.projection, handler, version),
            job.projection
        );
        let result = execute(&mut self.session.client, &script, None);
        self.outcome(Operation::ControlJob, result, &script)
    }

    /// For good; then the job goes on, now or when it is resumed.
    fn skip(&mut self, job: &Job, all: bool) -> Result<String> {
        let Job { projection, error_position, .. } = job;
        let limit = if all { "ALL" } else { "1" };
        let mut script = format!(
            "SELECT refold.skip_event('{projection}', e.position, 'on purpose'), note_skip('{projection}', e.position)
             FROM (SELECT position FROM refold.event WHERE event_type = 'flawed' AND position >= {error_position}
                   ORDER BY position LIMIT {limit}) e"
        );
        if self.planner.chance(0.7) {
            script.push_str(&format!("; SELECT refold.resume_rebuild('{projection}')"));
        }
        self.control(&script)
    }

    /// How many share the replays of workers that begin from now on.
    fn set_workers(&mut self) -> Result<()> {
        let workers = 1 + self.planner.pick(3);
        let sql = "SELECT quote_ident(current_database())";
        let database: String = self.watcher.insist(|client| client.query_one(sql, &[]))?.try_get(0)?;
        let alter = format!("ALTER DATABASE {database} SET refold.rebuild_workers = {workers}");
        self.watcher.insist(|client| client.batch_execute(&alter))
    }

    /// Some row of a fold, whatever its projection is at.
    fn rebuild_key(&mut self) -> Result<()> {
        let folds = [("cart", "cart_id"), ("shelf", "sku"), ("tally", "stream_id")];
        let (name, key) = folds[self.planner.pick(folds.len())];
        let (skip, from) = (self.planner.pick(200), SystemTime::now());
        // One row of a model that still has events which were left out would lose them: then it is no one fold any more.
        let outdated = "SELECT EXISTS (SELECT FROM outdated WHERE projection = $1)";
        if self.watcher.insist(|client| client.query_one(outdated, &[&name]))?.try_get(0)? {
            return Ok(());
        }
        let rebuild = format!(
            "SELECT refold.rebuild_projection('{name}', key => k.key) FROM (SELECT jsonb_build_object('{key}', t.{key}) AS key
             FROM {name} t OFFSET {skip} LIMIT 1) k"
        );
        let transaction = self.planner.transaction();
        let result = execute(&mut self.session.client, &rebuild, transaction);
        let outcome = self.outcome(Operation::RebuildKey, result, &rebuild)?;
        self.shared.stats.count_deed(&format!("key: {}", outcome.split(' ').next().unwrap_or_default()));
        self.shared.timeline.add(from, format!("key of {name}: {outcome}"));
        Ok(())
    }
}

fn execute(
    client: &mut Client,
    script: &str,
    transaction: Option<(Duration, bool)>,
) -> Result<String, Fault> {
    let Some((holds, commits)) = transaction else {
        client.batch_execute(script)?;
        return Ok("done".to_owned());
    };
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")?;
    client.batch_execute(script)?;
    thread::sleep(holds);
    client.batch_execute(if commits { "COMMIT" } else { "ROLLBACK" })?;
    Ok(if commits { "committed" } else { "rolled-back" }.to_owned())
}

/// When the load is over: every job must come to its end, and then every model must be whole again.
pub fn settle(shared: &Shared) -> Result<()> {
    let mut session = Session::open(shared, Role::Protected, None)?;
    let started = Instant::now();
    loop {
        let jobs = jobs(&mut session)?;
        let workers = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND backend_type LIKE 'refold%'";
        let workers: i64 = session.insist(|client| client.query_one(workers, &[]))?.try_get(0)?;
        if jobs.is_empty() && workers == 0 {
            break;
        }
        ensure!(started.elapsed() < SETTLED, "after {SETTLED:?} there are {workers} workers and {jobs:?}");
        for job in &jobs {
            let function = match job.standing {
                Standing::Running => "resume_rebuild",
                Standing::Paused if job.phase != "grace" => "resume_rebuild",
                Standing::Grace | Standing::Paused => "finish_rebuild",
                Standing::Brittle | Standing::Failed if job.phase == "grace" => "finish_rebuild",
                Standing::Brittle | Standing::Failed => "cancel_rebuild",
            };
            let script = format!("SELECT refold.{function}('{}')", job.projection);
            if let Err(error) = session.client.batch_execute(&script) {
                session.overcome(Operation::ControlJob, Fault::Sql(error)).context(script)?;
            }
        }
        thread::sleep(Duration::from_millis(300));
    }
    let skipped = "SELECT name FROM refold.projection WHERE mode = 'skipping'";
    for row in session.insist(|client| client.query(skipped, &[]))? {
        let name: String = row.try_get(0)?;
        let known = HANDLERS.iter().any(|(known, ..)| *known == name);
        ensure!(known, "{name} is incomplete");
        let script = format!("SELECT refold.rebuild_projection('{name}')");
        if let Err(error) = session.client.batch_execute(&script) {
            let failed = session.overcome(Operation::Rebuild, Fault::Sql(error)).context(script)?;
            ensure!(failed == Failed::Lost, "{name} cannot be rebuilt at the end");
        }
        shared.stats.count_deed("incomplete at the end");
    }
    rebuild_outdated(&mut session, shared)
}

/// Where events were left out that the live model still has, a verification must say so, and a rebuild must mend it.
fn rebuild_outdated(session: &mut Session, shared: &Shared) -> Result<()> {
    for row in session.insist(|client| client.query("SELECT projection FROM outdated", &[]))? {
        let name: String = row.try_get(0)?;
        let verify = "SELECT count(*) FROM refold.verify_projection($1)";
        let differing: i64 = session.insist(|client| client.query_one(verify, &[&name]))?.try_get(0)?;
        ensure!(differing > 0, "verify_projection('{name}') does not know of the events that were left out");
        let script = format!("SELECT refold.rebuild_projection('{name}')");
        if let Err(error) = session.client.batch_execute(&script) {
            session.overcome(Operation::Rebuild, Fault::Sql(error)).context(script)?;
            bail!("{name} cannot be rebuilt without the events that were left out");
        }
        shared.stats.count_deed("still with events left out at the end");
    }
    Ok(())
}
