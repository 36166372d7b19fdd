//! What a writer does next, drawn from its own seeded generator: the same seed gives the same plans, however the run
//! goes. Knows nothing of PostgreSQL.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

const HOT_STREAMS: u32 = 4;
const COLD_STREAMS: u32 = 1500;
const SKUS: u32 = 60;

/// The isolation level of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Isolation {
    pub fn begin(self) -> &'static str {
        match self {
            Self::ReadCommitted => "BEGIN ISOLATION LEVEL READ COMMITTED",
            Self::RepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Self::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        }
    }

    /// Each level as often as its weight says.
    pub fn draw(rng: &mut StdRng, read_committed: u32, repeatable_read: u32, serializable: u32) -> Self {
        let drawn = rng.random_range(0..read_committed + repeatable_read + serializable);
        if drawn < read_committed {
            Self::ReadCommitted
        } else if drawn < read_committed + repeatable_read {
            Self::RepeatableRead
        } else {
            Self::Serializable
        }
    }
}

/// What an event says; the stream is the append's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub event_type: &'static str,
    /// JSON text.
    pub data: String,
}

/// The `expected_version` of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Nothing,
    New,
    /// What the writer believes the stream is at.
    Known,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    pub stream: String,
    /// One event goes through `append_event`, several through `append_events`.
    pub drafts: Vec<Draft>,
    pub expect: Expect,
    /// With this `event_id`, so that it can be repeated.
    pub event_id: Option<String>,
}

impl Append {
    /// The id of each event: those of a batch are the first one's with their own number in front.
    pub fn event_id_of(&self, index: usize) -> Option<String> {
        let id = self.event_id.as_ref()?;
        Some(if self.drafts.len() == 1 { id.clone() } else { format!("{index:08x}{}", id.get(8..)?) })
    }

    /// The events as `append_events` takes them, each with this metadata, which is JSON text.
    pub fn as_json(&self, metadata: &str) -> String {
        let element = |(index, draft): (usize, &Draft)| {
            let id = self.event_id_of(index).map(|id| format!(r#", "event_id": "{id}""#));
            let id = id.unwrap_or_default();
            let Draft { event_type, data } = draft;
            format!(r#"{{"type": "{event_type}", "data": {data}, "metadata": {metadata}{id}}}"#)
        };
        let elements: Vec<_> = self.drafts.iter().enumerate().map(element).collect();
        format!("[{}]", elements.join(", "))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Append(Append),
    /// Fixes the snapshot of a transaction that keeps one.
    TakeSnapshot,
    Hold(Duration),
    /// Steps behind a savepoint, which is rolled back to or released.
    Savepoint {
        steps: Vec<Step>,
        rollback: bool,
    },
    /// Behind a savepoint, an append that must fail with 40001.
    WrongVersion(String),
    /// Behind a savepoint, an acknowledged event_id with other content: must fail with 23505.
    TakenId(usize),
    /// An acknowledged append once more: must give the same result.
    Repeat(usize),
    /// Compares one model with the log in the middle of the transaction.
    Look(usize),
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Commit,
    Rollback,
    /// PREPARE TRANSACTION; another session commits it or rolls it back later.
    Prepare {
        after: Duration,
        commit: bool,
    },
}

/// One transaction of a writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub number: u64,
    pub isolation: Isolation,
    pub steps: Vec<Step>,
    pub end: End,
    /// What it sets for itself.
    pub setting: Option<String>,
    pub think: Duration,
}

impl Plan {
    pub fn is_prepared(&self) -> bool {
        matches!(self.end, End::Prepare { .. })
    }

    /// One statement does it: no BEGIN and COMMIT around it.
    pub fn is_single_statement(&self) -> bool {
        matches!(self.steps[..], [Step::Append(_)])
            && self.end == End::Commit
            && self.isolation == Isolation::ReadCommitted
            && self.setting.is_none()
    }
}

/// Draws the plans of one writer.
pub struct Planner {
    rng: StdRng,
    writer: u64,
    number: u64,
}

/// A generator of its own for each thread of a run.
pub fn generator(seed: u64, thread: u64) -> StdRng {
    // Any odd factor keeps the threads of neighbouring seeds apart.
    StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(thread))
}

impl Planner {
    pub fn new(seed: u64, writer: u64) -> Self {
        Self { rng: generator(seed, writer), writer, number: 0 }
    }

    pub fn next_plan(&mut self) -> Plan {
        self.number += 1;
        let isolation = Isolation::draw(&mut self.rng, 60, 25, 15);
        let mut steps = Vec::new();
        if isolation != Isolation::ReadCommitted && self.rng.random_bool(0.3) {
            steps.push(Step::TakeSnapshot);
            if self.rng.random_bool(0.3) {
                steps.push(self.hold(60));
            }
        }
        let appends = if self.rng.random_bool(0.6) { 1 } else { self.rng.random_range(2..=4) };
        let mut streams: Vec<String> = (0..appends).map(|_| self.stream()).collect();
        if self.rng.random_bool(0.8) {
            streams.sort_unstable();
        }
        for stream in streams {
            let append = self.append(stream);
            match self.rng.random_range(0..100) {
                0..6 => {
                    let mut steps_behind = vec![Step::Append(append.clone())];
                    if self.rng.random_bool(0.3) {
                        let second = self.stream();
                        steps_behind.push(Step::Append(self.append(second)));
                    }
                    let rollback = self.rng.random_bool(0.7);
                    steps.push(Step::Savepoint { steps: steps_behind, rollback });
                    if rollback {
                        steps.push(Step::Append(append));
                    }
                }
                6..8 => {
                    steps.push(Step::WrongVersion(append.stream.clone()));
                    steps.push(Step::Append(append));
                }
                8..10 => {
                    steps.push(Step::TakenId(self.rng.random_range(0..1000)));
                    steps.push(Step::Append(append));
                }
                10..15 => steps.extend([Step::Repeat(self.rng.random_range(0..1000)), Step::Append(append)]),
                _ => steps.push(Step::Append(append)),
            }
        }
        if self.rng.random_bool(0.01) {
            steps.push(Step::Look(self.rng.random_range(0..1000)));
        }
        if self.rng.random_bool(0.04) {
            let hold = self.hold(300);
            steps.push(hold);
        }
        let end = match self.rng.random_range(0..100) {
            0..5 => End::Rollback,
            5..8 => End::Prepare { after: self.mostly_short(300), commit: self.rng.random_bool(0.7) },
            _ => End::Commit,
        };
        let setting = match self.rng.random_range(0..100) {
            0..3 => Some(format!("statement_timeout = {}", self.rng.random_range(1..=30))),
            3..5 => Some(format!("lock_timeout = {}", self.rng.random_range(1..=30))),
            _ => None,
        };
        let think = Duration::from_micros(self.rng.random_range(0..=4000));
        Plan { number: self.number, isolation, steps, end, setting, think }
    }

    /// An append that can be repeated until it is acknowledged, whatever the stream's version.
    pub fn next_retried(&mut self) -> Append {
        self.number += 1;
        let stream = self.stream();
        let append = self.append(stream);
        let event_id = Some(self.event_id());
        // A live handler may refuse the flawed for good.
        let flawless = |draft| match draft {
            Draft { event_type: "flawed", data } => Draft { event_type: "item_added", data },
            draft => draft,
        };
        let drafts = append.drafts.into_iter().map(flawless).collect();
        Append { expect: Expect::Nothing, event_id, drafts, ..append }
    }

    fn hold(&mut self, longest: u64) -> Step {
        Step::Hold(self.mostly_short(longest))
    }

    /// Up to so many milliseconds, one in six more than half of that: others have to get on.
    fn mostly_short(&mut self, longest: u64) -> Duration {
        let draw: f64 = self.rng.random();
        Duration::from_secs_f64(draw.powi(4) * longest as f64 / 1000.0)
    }

    fn stream(&mut self) -> String {
        match self.rng.random_range(0..100) {
            0..30 => format!("hot-{}", self.rng.random_range(1..=HOT_STREAMS)),
            30..95 => format!("cold-{}", self.rng.random_range(1..=COLD_STREAMS)),
            _ => format!("new-{}-{}-{}", self.writer, self.number, self.rng.random_range(0..10_000)),
        }
    }

    fn append(&mut self, stream: String) -> Append {
        let count = if self.rng.random_bool(0.25) { self.rng.random_range(2..=8) } else { 1 };
        let drafts = (0..count).map(|_| self.draft()).collect();
        let expect = match self.rng.random_range(0..100) {
            _ if stream.starts_with("new-") => Expect::New,
            0..10 => Expect::Known,
            _ => Expect::Nothing,
        };
        let event_id = self.rng.random_bool(0.3).then(|| self.event_id());
        Append { stream, drafts, expect, event_id }
    }

    fn event_id(&mut self) -> String {
        let bits: u128 = self.rng.random();
        let hex = format!("{bits:032x}");
        format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
    }

    fn draft(&mut self) -> Draft {
        // The square favours low numbers: some goods are in demand.
        let draw: f64 = self.rng.random();
        let sku = (draw * draw * f64::from(SKUS)) as u32;
        let (event_type, data) = match self.rng.random_range(0..100) {
            // Some handlers cannot take it.
            0 if self.rng.random_bool(0.3) => ("flawed", self.item(sku)),
            0..70 => ("item_added", self.item(sku)),
            70..82 => ("item_removed", self.item(sku)),
            82..95 => ("voucher_given", format!(r#"{{"amount": {}}}"#, self.rng.random_range(50..=500))),
            _ => ("checked_out", "{}".to_owned()),
        };
        Draft { event_type, data }
    }

    fn item(&mut self, sku: u32) -> String {
        let (qty, price) = (self.rng.random_range(1..=5), self.rng.random_range(99..=9999));
        format!(r#"{{"sku": "sku-{sku}", "qty": {qty}, "price": {price}}}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(seed: u64, writer: u64, count: usize) -> Vec<Plan> {
        let mut planner = Planner::new(seed, writer);
        (0..count).map(|_| planner.next_plan()).collect()
    }

    #[test]
    fn a_seed_repeats_its_plans() {
        assert_eq!(plans(7, 1, 300), plans(7, 1, 300));
        assert_ne!(plans(7, 1, 300), plans(7, 2, 300));
        assert_ne!(plans(7, 1, 300), plans(8, 1, 300));
    }

    #[test]
    fn what_is_retried_has_its_ids() {
        let mut planner = Planner::new(1, 0);
        for append in (0..300).map(|_| planner.next_retried()) {
            let ids: std::collections::HashSet<_> =
                (0..append.drafts.len()).filter_map(|index| append.event_id_of(index)).collect();
            assert_eq!(ids.len(), append.drafts.len());
            assert_eq!(append.expect, Expect::Nothing);
        }
    }

    #[test]
    fn every_kind_of_step_and_end_comes_up() {
        let plans = plans(1, 0, 3000);
        let any_step = |is: fn(&Step) -> bool| plans.iter().flat_map(|plan| &plan.steps).any(is);
        assert!(any_step(|step| matches!(step, Step::Savepoint { rollback: true, .. })));
        assert!(any_step(|step| matches!(step, Step::Savepoint { rollback: false, .. })));
        assert!(any_step(|step| matches!(step, Step::WrongVersion(_))));
        assert!(any_step(|step| matches!(step, Step::TakenId(_))));
        assert!(any_step(|step| matches!(step, Step::Repeat(_))));
        assert!(any_step(|step| matches!(step, Step::Look(_))));
        assert!(any_step(|step| matches!(step, Step::TakeSnapshot)));
        assert!(any_step(|step| matches!(step, Step::Append(append) if append.drafts.len() > 1)));
        for commit in [true, false] {
            let ends_so = |plan: &Plan| matches!(plan.end, End::Prepare { commit: c, .. } if c == commit);
            assert!(plans.iter().any(ends_so));
        }
        assert!(plans.iter().any(|plan| plan.setting.is_some()));
        assert!(plans.iter().any(Plan::is_single_statement));
    }
}
