//! Starts rebuild jobs, concurrent and in place: by the procedure, by the function, in transactions that roll back.

use anyhow::{Context, Result, anyhow};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::job_plan::{By, JobPlanner, Start};
use crate::operation::Operation;
use crate::rebuilder::told;
use crate::session::{Fault, OWNER, Role, Session};
use crate::shared::{Doing, Shared};

/// A statement that takes longer hangs.
const HANGS: Duration = Duration::from_secs(55);

pub struct Operator<'a> {
    session: Session<'a>,
    shared: &'a Shared,
    planner: JobPlanner,
    number: u64,
    count: u64,
}

impl<'a> Operator<'a> {
    pub fn open(shared: &'a Shared, number: u64) -> Result<Self> {
        let session = Session::open(shared, Role::Operator, Some(OWNER))?;
        Ok(Self { session, shared, planner: JobPlanner::new(shared.seed, number), number, count: 0 })
    }

    pub fn run(mut self) -> Result<()> {
        while !self.shared.is_load_over() {
            let start = self.planner.next_start();
            let (from, started, pid) = (SystemTime::now(), Instant::now(), self.session.pid);
            let what = start.describe();
            self.shared.begin(pid, Doing { text: what.clone(), keeps_gate: false });
            let outcome = match self.start(&start) {
                Ok(outcome) => outcome,
                Err(fault) => {
                    let code = told(&fault);
                    self.session.overcome(Operation::StartJob, fault).with_context(|| what.clone())?;
                    code
                }
            };
            self.shared.timeline.add(from, format!("process {pid}: {what}: {outcome}"));
            if started.elapsed() > HANGS {
                let around = self.shared.timeline.between(from, SystemTime::now()).join("\n  ");
                return Err(anyhow!("{what} took {:.1?}: {outcome}\n  {around}", started.elapsed()));
            }
            thread::sleep(self.planner.pause(if outcome.starts_with("55006") { 150 } else { 600 }));
        }
        Ok(())
    }

    fn start(&mut self, start: &Start) -> Result<String, Fault> {
        self.count += 1;
        let fresh = format!("{}_job_{}_{}", start.name(), self.number, self.count);
        let (handler, creation) = start.handler(&fresh);
        let Start { in_place, verify, grace, by, .. } = *start;
        let handler = handler.map_or_else(|| "NULL".to_owned(), |handler| format!("'{handler}'"));
        let common = format!(
            "'{}', {handler}, in_place => {in_place}, verify => {verify}, grace => '{grace} ms'",
            start.name()
        );
        let client = &mut self.session.client;
        let select = format!("SELECT refold.start_rebuild({common})");
        match by {
            By::Call { cancels } => {
                client.batch_execute(&creation.unwrap_or_default())?;
                let on_cancel = if cancels { "cancel" } else { "keep" };
                let call = format!(
                    "CALL refold.rebuild_projection_concurrently({common}, on_cancel => '{on_cancel}')"
                );
                client.batch_execute(&call)?;
                self.shared.stats.count_deed(&format!("CALL returned: {}", start.kind()));
            }
            By::Function => {
                client.batch_execute(&creation.unwrap_or_default())?;
                client.query(&select, &[])?;
                self.shared.stats.count_deed(&format!("started: {}", start.kind()));
            }
            By::Transaction { holds, commits } => {
                client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")?;
                client.batch_execute(&creation.unwrap_or_default())?;
                client.query(&select, &[])?;
                thread::sleep(holds);
                client.batch_execute(if commits { "COMMIT" } else { "ROLLBACK" })?;
                let deed = if commits { "started" } else { "start rolled back" };
                self.shared.stats.count_deed(&format!("{deed}: {}", start.kind()));
            }
        }
        Ok("done".to_owned())
    }
}
