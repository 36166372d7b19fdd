//! A client of the shop: runs its plans through ordinary SQL, and remembers what was acknowledged.

use anyhow::{Result, bail};
use postgres::{Client, Config, GenericClient, Statement, Transaction};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

use super::load::{Load, Signals};
use super::plan::{Draft, End, Plan, Planner};
use super::protocol::connect;
use super::sql_error::{explain, is_retryable};
use super::stats::{Stats, tally};

/// A transaction that failed so often for want of serialization is no bad luck any more.
const MAX_TRIES: u32 = 100;

pub struct Writer<'a> {
    client: Client,
    append: Statement,
    planner: Planner,
    stats: &'a Stats,
}

impl<'a> Writer<'a> {
    pub fn connect(config: &Config, load: Load, number: u64, stats: &'a Stats) -> Result<Self> {
        let mut client = connect(config)?;
        let append = load.protocol.prepare_append(&mut client)?;
        Ok(Self { client, append, planner: Planner::new(load.seed, number), stats })
    }

    /// Runs plan after plan until told to stop; gives the positions that were acknowledged.
    pub fn run(mut self, signals: &Signals) -> Result<Vec<i64>> {
        let mut acknowledged = Vec::new();
        while !signals.is_stopped() {
            let plan = self.planner.next_plan();
            thread::sleep(plan.think);
            let positions = self.run_plan(&plan)?;
            self.count(&plan, positions.len());
            acknowledged.extend(positions);
        }
        Ok(acknowledged)
    }

    /// Tries until it is through; gives the positions that are committed.
    fn run_plan(&mut self, plan: &Plan) -> Result<Vec<i64>> {
        for _ in 0..MAX_TRIES {
            match self.try_plan(plan) {
                Ok(positions) => return Ok(positions),
                Err(error) if is_retryable(&error) => tally(&self.stats.retries),
                Err(error) => return Err(explain(error)),
            }
        }
        bail!("a transaction failed {MAX_TRIES} times with a serialization failure or a deadlock")
    }

    fn try_plan(&mut self, plan: &Plan) -> Result<Vec<i64>, postgres::Error> {
        if plan.is_single_statement() {
            return plan
                .drafts
                .iter()
                .map(|draft| append(&mut self.client, &self.append, draft, self.stats))
                .collect();
        }
        let (statement, stats) = (&self.append, self.stats);
        let positions = |transaction: &mut Transaction| -> Result<Vec<i64>, postgres::Error> {
            let positions = plan
                .drafts
                .iter()
                .map(|draft| append(transaction, statement, draft, stats))
                .collect::<Result<Vec<_>, _>>()?;
            thread::sleep(plan.hold.unwrap_or_default());
            Ok(positions)
        };
        match plan.end {
            End::Commit => in_transaction(&mut self.client, positions),
            End::Rollback => {
                let mut transaction = self.client.transaction()?;
                positions(&mut transaction)?;
                transaction.rollback()?;
                Ok(Vec::new())
            }
        }
    }

    fn count(&self, plan: &Plan, appended: usize) {
        self.stats.appends.fetch_add(appended as u64, Ordering::Relaxed);
        if plan.hold.is_some() {
            tally(&self.stats.slow);
        }
        if plan.end == End::Rollback {
            tally(&self.stats.rolled_back);
        }
    }
}

/// Appends one event, gives its position, and records how long the client waited.
pub fn append(
    client: &mut impl GenericClient,
    append: &Statement,
    draft: &Draft,
    stats: &Stats,
) -> Result<i64, postgres::Error> {
    let start = Instant::now();
    let row = client.query_one(append, &[&draft.stream_id, &draft.event_type, &draft.data])?;
    stats.record_append(start.elapsed());
    row.try_get(0)
}

/// Runs `work` in a transaction and commits it.
pub fn in_transaction<T>(
    client: &mut Client,
    work: impl FnOnce(&mut Transaction) -> Result<T, postgres::Error>,
) -> Result<T, postgres::Error> {
    let mut transaction = client.transaction()?;
    let result = work(&mut transaction)?;
    transaction.commit()?;
    Ok(result)
}
