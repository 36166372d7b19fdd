//! What is done with rebuild jobs next, drawn from seeded generators. Knows nothing of PostgreSQL but SQL.

use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;

use crate::operation::{BRITTLE, FLAW};
use crate::plan::generator;
use crate::rebuild_plan::{HANDLERS, arguments, wrapper};

/// What is wrong with a job's new handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// Fails now and then in an append, never in a replay: so it does once it is live, too.
    Flaky,
    /// Cannot take events of one type, which may come up only later.
    Brittle,
}

impl Flaw {
    /// PL/pgSQL in front of the handler's work. The sequence counts whatever becomes of the transaction.
    fn statements(self) -> String {
        let (condition, code) = match self {
            Self::None => return String::new(),
            Self::Flaky => {
                ("current_setting('application_name') = 'refold stress Appender' AND random() < 0.01", FLAW)
            }
            Self::Brittle => ("event.event_type = 'flawed'", BRITTLE),
        };
        format!(
            "IF {condition} THEN PERFORM nextval('flaws'); RAISE 'on purpose' USING ERRCODE = '{code}'; END IF;"
        )
    }
}

/// The handler that a job is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobHandler {
    Same,
    Named(u8),
    /// A function that nobody else uses.
    Fresh(u8, Flaw),
}

/// Who starts it, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The procedure, which waits for the new model.
    Call {
        cancels: bool,
    },
    Function,
    /// In a transaction of some time, which commits or not.
    Transaction {
        holds: Duration,
        commits: bool,
    },
}

#[derive(Debug, Clone, Copy)]
pub struct Start {
    pub projection: usize,
    pub handler: JobHandler,
    pub in_place: bool,
    pub verify: bool,
    /// Milliseconds.
    pub grace: u64,
    pub by: By,
}

impl Start {
    pub fn name(&self) -> &'static str {
        HANDLERS[self.projection % HANDLERS.len()].0
    }

    /// The function with its arguments' types, and the statement that makes it if there is none yet.
    pub fn handler(&self, fresh: &str) -> (Option<String>, Option<String>) {
        let name = self.name();
        let (_, declared, _) = HANDLERS[self.projection % HANDLERS.len()];
        let types = arguments(declared).1.join(",");
        match self.handler {
            JobHandler::Same => (None, None),
            JobHandler::Named(version) => (Some(format!("{name}_v{version}({types})")), None),
            JobHandler::Fresh(version, flaw) => {
                let function = wrapper(name, fresh, version, &flaw.statements());
                (Some(format!("{fresh}({types})")), Some(function))
            }
        }
    }

    pub fn describe(&self) -> String {
        let Start { handler, in_place, verify, grace, by, .. } = self;
        let place = if *in_place { "in place" } else { "concurrently" };
        let verify = if *verify { ", verified" } else { "" };
        let grace = if *grace > 0 { format!(", grace {grace} ms") } else { String::new() };
        format!("job for {} {handler:?} {place}{verify}{grace} ({by:?})", self.name())
    }

    pub fn kind(&self) -> &'static str {
        match (self.in_place, self.verify, self.grace > 0) {
            (true, _, _) => "in place",
            (false, false, false) => "concurrent",
            (false, true, false) => "concurrent, verified",
            (false, false, true) => "concurrent, with grace",
            (false, true, true) => "concurrent, verified, with grace",
        }
    }
}

/// What is done with a job, whatever it is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Leave,
    Pause,
    Resume,
    Cancel,
    Finish,
    RollBack,
    EndWorker,
    CancelWorker,
    /// The handler takes all events from now on.
    Mend,
    /// The event that has failed is left out, or all of its type since.
    Skip {
        all: bool,
    },
}

/// What is known of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Running,
    Grace,
    Paused,
    /// By an event that its handler cannot take.
    Brittle,
    /// By an error that resuming does not mend.
    Failed,
}

pub struct JobPlanner {
    rng: StdRng,
}

impl JobPlanner {
    pub fn new(seed: u64, number: u64) -> Self {
        Self { rng: generator(seed, 8000 + number) }
    }

    pub fn next_start(&mut self) -> Start {
        let projection = self.rng.random_range(0..HANDLERS.len());
        let (name, declared, _) = HANDLERS[projection];
        // Foreign keys: it cannot be swapped.
        let in_place = name == "bill" || self.rng.random_bool(0.3);
        let version = self.rng.random_range(1..=2);
        let takes_all_types = ["cart", "shelf", "tally"].contains(&name) && declared.contains("event ");
        let handler = match self.rng.random_range(0..100) {
            0..15 => JobHandler::Same,
            15..45 => JobHandler::Named(version),
            45..57 => JobHandler::Fresh(version, Flaw::Flaky),
            57..85 if takes_all_types => JobHandler::Fresh(version, Flaw::Brittle),
            _ => JobHandler::Fresh(version, Flaw::None),
        };
        let fresh = matches!(handler, JobHandler::Fresh(..));
        let grace = if fresh && !in_place && self.rng.random_bool(0.6) {
            self.rng.random_range(50..=5000)
        } else {
            0
        };
        let by = match self.rng.random_range(0..100) {
            0..55 => By::Call { cancels: self.rng.random_bool(0.4) },
            55..75 => By::Function,
            _ => By::Transaction {
                holds: Duration::from_millis(self.rng.random_range(0..=150)),
                commits: self.rng.random_bool(0.6),
            },
        };
        Start { projection, handler, in_place, verify: !in_place && self.rng.random_bool(0.3), grace, by }
    }

    pub fn next_deed(&mut self, standing: Standing) -> Deed {
        let draw = self.rng.random_range(0..100);
        match (standing, draw) {
            (Standing::Running, 0..8) => Deed::Pause,
            (Standing::Running, 8..12) => Deed::Cancel,
            (Standing::Running, 12..20) => Deed::EndWorker,
            (Standing::Running, 20..26) => Deed::CancelWorker,
            (Standing::Running, 26..45) => Deed::Resume,
            (Standing::Grace, 0..25) => Deed::Finish,
            (Standing::Grace, 25..60) => Deed::RollBack,
            (Standing::Grace, 60..65) => Deed::Pause,
            (Standing::Grace, 65..75) => Deed::EndWorker,
            (Standing::Paused, 0..70) => Deed::Resume,
            (Standing::Paused, 70..80) => Deed::Cancel,
            (Standing::Paused, 80..88) => Deed::Finish,
            (Standing::Paused, 88..94) => Deed::RollBack,
            (Standing::Brittle, 0..20) => Deed::Mend,
            (Standing::Brittle, 20..40) => Deed::Skip { all: false },
            (Standing::Brittle, 40..75) => Deed::Skip { all: true },
            (Standing::Brittle, 75..90) => Deed::Resume,
            (Standing::Failed, 0..20) => Deed::Resume,
            (Standing::Brittle | Standing::Failed, _) => Deed::Cancel,
            _ => Deed::Leave,
        }
    }

    /// In a transaction that goes on for so long, and commits or not.
    pub fn transaction(&mut self) -> Option<(Duration, bool)> {
        let holds = Duration::from_millis(self.rng.random_range(0..=80));
        let commits = self.rng.random_bool(0.6);
        self.rng.random_bool(0.2).then_some((holds, commits))
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    pub fn pick(&mut self, count: usize) -> usize {
        self.rng.random_range(0..count.max(1))
    }

    /// Up to so many milliseconds.
    pub fn pause(&mut self, longest: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(1..=longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_jobs_and_every_kind_comes_up() {
        let starts = |seed| {
            let mut planner = JobPlanner::new(seed, 1);
            (0..500).map(|_| planner.next_start()).collect::<Vec<_>>()
        };
        let texts = |starts: &[Start]| starts.iter().map(Start::describe).collect::<Vec<_>>();
        assert_eq!(texts(&starts(3)), texts(&starts(3)));
        let kinds: std::collections::BTreeSet<_> = starts(3).iter().map(Start::kind).collect();
        assert_eq!(kinds.len(), 5);
        assert!(starts(3).iter().all(|start| !start.in_place || start.grace == 0));
    }
}
