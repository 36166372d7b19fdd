//! Rebuilds back to back, and verifications: new handlers by name, by CREATE OR REPLACE in the same transaction, or the
//! same again; committed, rolled back, rolled back to a savepoint.

use anyhow::{Context, Result, anyhow};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::appender::APPEND;
use crate::ledger::{Entry, Outcome, Written};
use crate::operation::{BRITTLE, Operation};
use crate::plan::Isolation;
use crate::rebuild_plan::{
    Action, Appends, End, HANDLERS, Handler, Rebuild, RebuildPlanner, arguments, replacement,
};
use crate::session::{Failed, Fault, OWNER, Role, Session};
use crate::shared::{Doing, Shared};
use crate::stats::Rebuilt;

/// What a transaction has appended, and whether its end was tried.
#[derive(Default)]
struct Appended {
    positions: Vec<(Written, i64)>,
    ends: bool,
}

pub struct Rebuilder<'a> {
    session: Session<'a>,
    shared: &'a Shared,
    planner: RebuildPlanner,
    number: u64,
    /// Of the transactions so far.
    count: u64,
}

impl<'a> Rebuilder<'a> {
    pub fn open(shared: &'a Shared, number: u64, short_gates: bool) -> Result<Self> {
        let session = Session::open(shared, Role::Rebuilder, Some(OWNER))?;
        let planner = RebuildPlanner::new(shared.seed, number, short_gates);
        Ok(Self { session, shared, planner, number, count: 0 })
    }

    pub fn run(mut self) -> Result<()> {
        while !self.shared.is_load_over() {
            let action = self.planner.next_action();
            let from = SystemTime::now();
            let pid = self.session.pid;
            let what = action.describe();
            self.shared.begin(pid, Doing { text: what.clone(), keeps_gate: action.keeps_gate() });
            let mut appended = Appended::default();
            let (operation, result) = match &action {
                Action::Rebuild(rebuild) => (Operation::Rebuild, self.rebuild(rebuild, &mut appended)),
                Action::Verify { projection, isolation, wait } => {
                    (Operation::Verify, self.verify(*projection, *isolation, *wait))
                }
            };
            let (outcome, failed) = match result {
                Ok(told) => (told, None),
                Err(fault) => {
                    let code = told(&fault);
                    let failed =
                        self.session.overcome(operation, fault).with_context(|| format!("{action:?}"))?;
                    (format!("{code}, {failed:?}"), Some(failed))
                }
            };
            self.record(&action, appended, failed);
            self.shared.timeline.add(from, format!("process {pid}: {what}: {outcome}"));
            if outcome.starts_with("55006") || outcome.starts_with("42704") {
                thread::sleep(self.planner.pause());
            }
        }
        Ok(())
    }

    fn rebuild(&mut self, rebuild: &Rebuild, appended: &mut Appended) -> Result<String, Fault> {
        let Rebuild { projections, end, setting, appends } = rebuild;
        let replaces = projections.iter().any(|(_, handler)| matches!(handler, Handler::Replaced(_)));
        let alone = *end == End::Alone && !replaces && projections.len() == 1 && setting.is_none();
        if !alone {
            self.session.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")?;
        }
        if let Some(setting) = setting {
            self.session.client.batch_execute(&format!("SET LOCAL {setting}"))?;
        }
        if *end == End::RollbackToSavepoint {
            self.session.client.batch_execute("SAVEPOINT s")?;
        }
        if *appends == Appends::Around {
            self.session.client.batch_execute("SELECT refold.lock_gate()")?;
            self.append(appended)?;
        }
        let mut told = Vec::new();
        for &(projection, handler) in projections {
            told.push(self.rebuild_one(projection, handler)?);
        }
        if *appends != Appends::No {
            self.append(appended)?;
        }
        let ends = match end {
            End::Alone | End::Commit if !alone => "COMMIT",
            End::Rollback => "ROLLBACK",
            End::RollbackToSavepoint => "ROLLBACK TO SAVEPOINT s; COMMIT",
            _ => "",
        };
        appended.ends = true;
        self.session.client.batch_execute(ends)?;
        if matches!(end, End::Rollback | End::RollbackToSavepoint) {
            self.shared.stats.rolled_back();
        }
        Ok(format!("{} {ends}", told.join(", ")))
    }

    /// An event of the rebuilder's own, in the rebuild's transaction.
    fn append(&mut self, appended: &mut Appended) -> Result<(), Fault> {
        let stream = format!("deploy-{}", self.number);
        let metadata = format!(r#"{{"tx": "{}"}}"#, self.tag());
        let nothing: (Option<i64>, Option<String>) = (None, None);
        let row = self
            .session
            .client
            .query_one(APPEND, &[&stream, &"checked_out", &"{}", &metadata, &nothing.0, &nothing.1])?;
        appended.positions.push((Written { stream, version: row.try_get(0)? }, row.try_get(1)?));
        Ok(())
    }

    fn tag(&self) -> String {
        format!("deploy-{}-{}", self.number, self.count)
    }

    fn record(&mut self, action: &Action, appended: Appended, failed: Option<Failed>) {
        let tag = self.tag();
        self.count += 1;
        // One that rolls back leaves nothing: events of a tag that nobody recorded are a fault.
        let commits = matches!(action, Action::Rebuild(Rebuild { end: End::Commit, .. }));
        if appended.positions.is_empty() || !commits {
            return;
        }
        let Appended { positions, ends } = appended;
        let outcome = match failed {
            None => Outcome::Committed,
            Some(Failed::Lost) if ends => Outcome::Unknown,
            Some(_) => Outcome::RolledBack,
        };
        let events: Vec<_> = positions.iter().map(|(written, _)| written.clone()).collect();
        if outcome == Outcome::Committed {
            self.shared.stats.committed(events.len());
        }
        self.shared.record(Entry { tag, outcome, events, positions, untold: 0 });
    }

    fn rebuild_one(&mut self, projection: usize, handler: Handler) -> Result<String, Fault> {
        let (name, declared, result) = HANDLERS[projection % HANDLERS.len()];
        let function = match handler {
            Handler::Same => None,
            Handler::Named(version) => Some(format!("{name}_v{version}")),
            Handler::Replaced(version) => {
                let function = format!("{name}_by_{}", self.number);
                self.session.client.batch_execute(&replacement(name, &function, version))?;
                Some(function)
            }
        };
        let (_, types) = arguments(declared);
        let signature = function.map(|function| format!("{function}({})", types.join(",")));
        debug_assert!(result == "void" || types.len() == 2);
        let row = self.session.client.query_one(
            "SELECT generation, events_replayed, gate_attempts, (extract(epoch FROM gate_held) * 1e6)::bigint,
                    (extract(epoch FROM duration) * 1e6)::bigint, events_under_gate,
                    rows_inserted + rows_updated + rows_deleted
             FROM refold.rebuild_projection($1, $2::text::regprocedure)",
            &[&name, &signature],
        )?;
        let micros = |column| {
            row.try_get::<_, i64>(column)
                .map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
        };
        let rebuilt = Rebuilt {
            projection: name,
            took: micros(4)?,
            gate: micros(3)?,
            events: row.try_get(5)?,
            rows: row.try_get(6)?,
            attempts: row.try_get(2)?,
        };
        self.shared.stats.rebuilt(rebuilt);
        let (generation, events): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let Rebuilt { gate, rows, attempts, .. } = rebuilt;
        Ok(format!(
            "generation {generation}, {events} events, {rows} rows, {attempts} attempts, gate held {gate:.1?}"
        ))
    }

    fn verify(&mut self, projection: usize, isolation: Isolation, wait: u64) -> Result<String, Fault> {
        let name = HANDLERS[projection % HANDLERS.len()].0;
        self.session.client.batch_execute(isolation.begin())?;
        if wait > 0 {
            self.session.client.query("SELECT 1", &[])?;
            thread::sleep(Duration::from_millis(wait));
        }
        let before = self.is_incomplete(name)?;
        let found = self.session.client.query(
            "SELECT relation::text, key::text, coalesce(live::text, '-'), coalesce(rebuilt::text, '-')
             FROM refold.verify_projection($1) LIMIT 5",
            &[&name],
        );
        let rows = match found {
            // A rebuild in place has not come to it yet, or is paused there; an append would have been refused.
            Err(error) if error.code().is_some_and(|code| code.code() == BRITTLE) => {
                self.session.client.batch_execute("ROLLBACK")?;
                if before || self.is_incomplete(name)? {
                    return Ok("meets an event that its handler cannot take".to_owned());
                }
                return Err(error.into());
            }
            found => found?,
        };
        let incomplete = before || self.is_incomplete(name)?;
        self.session.client.batch_execute("COMMIT")?;
        self.shared.stats.verified();
        let mut differences = String::new();
        for row in &rows {
            let column = |index| row.try_get::<_, String>(index);
            differences.push_str(&format!(
                "\n  {} {}: live {}, rebuilt {}",
                column(0)?,
                column(1)?,
                column(2)?,
                column(3)?
            ));
        }
        if differences.is_empty() {
            return Ok("holds".to_owned());
        }
        if incomplete {
            return Ok("differs, as it must".to_owned());
        }
        let now = SystemTime::now();
        let around = self.shared.timeline.between(now - Duration::from_secs(1), now).join("\n    ");
        Err(Fault::Broken(anyhow!(
            "verify_projection('{name}') at {isolation:?}, {wait} ms after its snapshot, finds{differences}\n    {around}"
        )))
    }
}

impl Rebuilder<'_> {
    /// Whether a rebuild in place is under way, or an event was left out that the live model still has. A rebuild that begins
    /// and ends between two questions takes longer than these.
    fn is_incomplete(&mut self, name: &str) -> Result<bool, Fault> {
        let sql = "SELECT EXISTS (SELECT FROM model_version WHERE projection = $1 AND mode = 'skipping')
                       OR EXISTS (SELECT FROM outdated WHERE projection = $1)";
        Ok(self.session.client.query_one(sql, &[&name])?.try_get(0)?)
    }
}

/// An error in a few words.
pub fn told(fault: &Fault) -> String {
    match fault {
        Fault::Sql(error) => match error.as_db_error() {
            Some(server) => format!("{} {}", server.code().code(), server.message()),
            None => "connection lost".to_owned(),
        },
        Fault::Broken(_) => "broken".to_owned(),
    }
}
