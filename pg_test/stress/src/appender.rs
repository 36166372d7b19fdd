//! A writer: runs its plans and remembers what it was told.

use anyhow::{Context, Result, anyhow};
use postgres::Statement;
use std::collections::HashMap;
use std::thread;
use std::time::Instant;

use crate::finisher::Prepared;
use crate::ledger::{Entry, Outcome, Written};
use crate::operation::Operation;
use crate::oracle::{self, Looks};
use crate::plan::{Append, End, Expect, Plan, Planner, Step};
use crate::session::{APP, Failed, Fault, Role, Session};
use crate::shared::Shared;

pub const APPEND: &str = "SELECT stream_version, position FROM refold.append_event($1, $2, $3::text::jsonb, \
    $4::text::jsonb, $5, $6::text::uuid)";
pub const APPEND_BATCH: &str =
    "SELECT stream_version, position FROM refold.append_events($1, $2::text::jsonb, $3)";

/// How often a transaction is tried again after a serialization failure or a deadlock.
const TRIES: u32 = 3;
/// How many acknowledged appends a writer remembers, to repeat them.
const MEMORY: usize = 200;

/// An acknowledged append that can be repeated.
struct Remembered {
    append: Append,
    result: (i64, i64),
}

/// What one try of a transaction has done so far.
#[derive(Default)]
struct Done {
    events: Vec<Written>,
    positions: Vec<(Written, i64)>,
    repeatable: Vec<Remembered>,
}

/// Where a try stopped.
enum Stage {
    Body,
    End,
}

pub struct Appender<'a> {
    session: Session<'a>,
    append: Statement,
    append_batch: Statement,
    shared: &'a Shared,
    writer: u64,
    planner: Planner,
    looks: Looks,
    versions: HashMap<String, i64>,
    remembered: Vec<Remembered>,
}

impl<'a> Appender<'a> {
    pub fn open(shared: &'a Shared, writer: u64) -> Result<Self> {
        let mut session = Session::open(shared, Role::Appender, Some(APP))?;
        let (append, append_batch) = prepare(&mut session)?;
        Ok(Self {
            session,
            append,
            append_batch,
            shared,
            writer,
            planner: Planner::new(shared.seed, writer),
            looks: Looks::all(),
            versions: HashMap::new(),
            remembered: Vec::new(),
        })
    }

    pub fn run(mut self) -> Result<()> {
        while !self.shared.is_load_over() {
            let plan = self.planner.next_plan();
            thread::sleep(plan.think);
            for number in 0..TRIES {
                let tag = format!("{}-{}-{number}", self.writer, plan.number);
                if self.try_plan(&plan, &tag).with_context(|| format!("transaction {tag}: {plan:?}"))? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether that is settled; if not, it may be tried again.
    fn try_plan(&mut self, plan: &Plan, tag: &str) -> Result<bool> {
        let mut done = Done::default();
        let mut stage = Stage::Body;
        let result = self.transact(plan, tag, &mut done, &mut stage);
        let (operation, single) = match (&stage, plan.end) {
            (Stage::Body, _) => (Operation::Append, plan.is_single_statement()),
            (Stage::End, End::Prepare { .. }) => (Operation::Prepare, false),
            (Stage::End, _) => (Operation::Commit, false),
        };
        let failed = match result {
            Ok(()) => None,
            Err(fault) => {
                let pid = self.session.pid;
                let failed = self.session.overcome(operation, fault)?;
                if self.session.pid != pid {
                    (self.append, self.append_batch) = prepare_again(&mut self.session)?;
                }
                Some(failed)
            }
        };
        let ending = matches!(stage, Stage::End) || single;
        let outcome = match (failed, plan.end) {
            (None, End::Rollback) | (Some(Failed::Refused), _) => Outcome::RolledBack,
            (None, _) => Outcome::Committed,
            (Some(Failed::Lost), End::Commit) if ending => Outcome::Unknown,
            (Some(Failed::Lost), End::Prepare { .. }) if ending => Outcome::Committed,
            (Some(Failed::Lost), _) => Outcome::RolledBack,
        };
        if matches!(stage, Stage::End) && failed == Some(Failed::Refused) && plan.is_prepared() {
            self.shared.free_slot();
        }
        let untold = match &plan.steps[..] {
            [Step::Append(append)] if single && outcome == Outcome::Unknown => append.drafts.len(),
            _ => 0,
        };
        self.settle(plan, tag, done, outcome, (failed, untold));
        Ok(failed != Some(Failed::Refused))
    }

    fn settle(
        &mut self,
        plan: &Plan,
        tag: &str,
        done: Done,
        outcome: Outcome,
        (failed, untold): (Option<Failed>, usize),
    ) {
        let Done { events, positions, repeatable } = done;
        let entry = Entry { tag: tag.to_owned(), outcome, events, positions, untold };
        if let (End::Prepare { after, commit }, Outcome::Committed) = (plan.end, outcome) {
            let due = Instant::now() + after;
            let certain = failed.is_none();
            self.shared.prepared().push(Prepared { entry, due, commit, certain });
            return;
        }
        if outcome == Outcome::Committed {
            for written in &entry.events {
                self.versions.insert(written.stream.clone(), written.version);
            }
            self.shared.stats.committed(entry.events.len());
            self.remembered.extend(repeatable);
            let surplus = self.remembered.len().saturating_sub(MEMORY);
            self.remembered.drain(..surplus);
        }
        self.shared.record(entry);
    }

    fn transact(&mut self, plan: &Plan, tag: &str, done: &mut Done, stage: &mut Stage) -> Result<(), Fault> {
        if let ([Step::Append(append)], true) = (&plan.steps[..], plan.is_single_statement()) {
            return self.append(append, tag, done);
        }
        self.session.client.batch_execute(plan.isolation.begin())?;
        if let Some(setting) = &plan.setting {
            self.session.client.batch_execute(&format!("SET LOCAL {setting}"))?;
        }
        for step in &plan.steps {
            self.step(step, tag, done)?;
        }
        if plan.is_prepared() {
            self.shared.take_slot();
        }
        *stage = Stage::End;
        match plan.end {
            End::Commit => self.session.client.batch_execute("COMMIT")?,
            End::Rollback => self.session.client.batch_execute("ROLLBACK")?,
            End::Prepare { .. } => {
                self.session.client.batch_execute(&format!("PREPARE TRANSACTION '{tag}'"))?;
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step, tag: &str, done: &mut Done) -> Result<(), Fault> {
        match step {
            Step::Append(append) => self.append(append, tag, done),
            Step::TakeSnapshot => {
                self.session.client.query("SELECT 1", &[])?;
                Ok(())
            }
            Step::Hold(time) => {
                thread::sleep(*time);
                Ok(())
            }
            Step::Savepoint { steps, rollback } => {
                self.session.client.batch_execute("SAVEPOINT s")?;
                let mut behind = Done::default();
                for step in steps {
                    self.step(step, tag, &mut behind)?;
                }
                if *rollback {
                    self.session.client.batch_execute("ROLLBACK TO SAVEPOINT s")?;
                } else {
                    self.session.client.batch_execute("RELEASE SAVEPOINT s")?;
                    done.events.append(&mut behind.events);
                    done.positions.append(&mut behind.positions);
                    done.repeatable.append(&mut behind.repeatable);
                }
                Ok(())
            }
            Step::WrongVersion(stream) => {
                let wrong = [(stream.as_str(), "voucher_given", r#"{"amount": 1}"#)];
                self.refused(wrong, Some(1_000_000_000), None, "40001")
            }
            Step::TakenId(pick) => {
                let Some(append) = pick_from(&self.remembered, *pick).map(|known| known.append.clone())
                else {
                    return Ok(());
                };
                let other = [(append.stream.as_str(), "voucher_given", r#"{"amount": -1}"#)];
                // In an older snapshot the known event is 40001; it is this writer's own, so none is older.
                self.refused(other, None, append.event_id_of(0).as_deref(), "23505")
            }
            Step::Repeat(pick) => self.repeat(*pick),
            Step::Look(pick) => {
                oracle::look(&mut self.session.client, self.looks.pick(*pick), self.shared)?;
                Ok(())
            }
        }
    }

    fn append(&mut self, append: &Append, tag: &str, done: &mut Done) -> Result<(), Fault> {
        let known = || {
            let here = done.events.iter().rev().find(|written| written.stream == append.stream);
            here.map(|written| written.version).or_else(|| self.versions.get(&append.stream).copied())
        };
        let expected = match append.expect {
            // A second append to the new stream in this transaction finds the first.
            Expect::New => Some(known().unwrap_or(0)),
            Expect::Known => known(),
            Expect::Nothing => None,
        };
        let (last, position) = self.call(append, tag, expected)?;
        let count = i64::try_from(append.drafts.len()).unwrap_or(i64::MAX);
        let version_of = |version| Written { stream: append.stream.clone(), version };
        done.events.extend((last - count + 1..=last).map(version_of));
        done.positions.push((version_of(last), position));
        if append.event_id.is_some() {
            done.repeatable.push(Remembered { append: append.clone(), result: (last, position) });
        }
        Ok(())
    }

    fn call(&mut self, append: &Append, tag: &str, expected: Option<i64>) -> Result<(i64, i64), Fault> {
        let started = Instant::now();
        let metadata = format!(r#"{{"tx": "{tag}"}}"#);
        let row = if let [draft] = &append.drafts[..] {
            let args: [&(dyn postgres::types::ToSql + Sync); 6] =
                [&append.stream, &draft.event_type, &draft.data, &metadata, &expected, &append.event_id];
            self.session.client.query_one(&self.append, &args)?
        } else {
            let events = append.as_json(&metadata);
            self.session.client.query_one(&self.append_batch, &[&append.stream, &events, &expected])?
        };
        self.shared.stats.append_took(started);
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    fn repeat(&mut self, pick: usize) -> Result<(), Fault> {
        let Some(known) = pick_from(&self.remembered, pick) else { return Ok(()) };
        let (append, expected) = (known.append.clone(), known.result);
        let result = self.call(&append, "repeated", None)?;
        if result == expected {
            self.shared.stats.repeated();
            return Ok(());
        }
        Err(Fault::Broken(anyhow!("{append:?} gave {expected:?} first and {result:?} when repeated")))
    }

    /// Behind a savepoint, an append that must be refused.
    fn refused(
        &mut self,
        [(stream, event_type, data)]: [(&str, &str, &str); 1],
        expected: Option<i64>,
        event_id: Option<&str>,
        sqlstate: &str,
    ) -> Result<(), Fault> {
        self.session.client.batch_execute("SAVEPOINT r")?;
        let metadata = r#"{"tx": "refused"}"#;
        let result = self
            .session
            .client
            .query(&self.append, &[&stream, &event_type, &data, &metadata, &expected, &event_id]);
        match result {
            Ok(_) => Err(Fault::Broken(anyhow!("an append to {stream} was not refused with {sqlstate}"))),
            Err(error) => {
                self.session.require_refusal(error, sqlstate)?;
                self.session.client.batch_execute("ROLLBACK TO SAVEPOINT r")?;
                self.shared.stats.refused();
                Ok(())
            }
        }
    }
}

fn pick_from(remembered: &[Remembered], pick: usize) -> Option<&Remembered> {
    remembered.get(pick.checked_rem(remembered.len())?)
}

fn prepare(session: &mut Session) -> Result<(Statement, Statement)> {
    prepare_again(session)
}

/// Until it is done: the new session, too, may be cancelled or ended.
fn prepare_again(session: &mut Session) -> Result<(Statement, Statement)> {
    loop {
        let prepared = session.client.prepare(APPEND).and_then(|append| {
            let batch = session.client.prepare(APPEND_BATCH)?;
            Ok((append, batch))
        });
        match prepared {
            Ok(prepared) => return Ok(prepared),
            Err(error) => {
                session.overcome(Operation::Append, Fault::Sql(error))?;
            }
        }
    }
}
