//! What a rebuilder does next, drawn from its own seeded generator. Knows nothing of PostgreSQL but SQL.

use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;

use crate::plan::{Isolation, generator};

/// The projections, how their handlers are declared, and how one handler calls another.
pub const HANDLERS: [(&str, &str, &str); 7] = [
    ("cart", "state cart, event refold.event", "cart"),
    ("sku_sales", "event refold.event", "void"),
    ("shelf", "state shelf, event refold.event", "shelf"),
    ("journal", "event refold.event", "void"),
    ("bill", "events refold.event[]", "void"),
    ("receipt", "events refold.event[]", "void"),
    ("tally", "state tally, event refold.event", "tally"),
];

/// What a projection's handler is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    Same,
    Named(u8),
    /// Replaced in the rebuild's transaction.
    Replaced(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A statement of its own.
    Alone,
    Commit,
    Rollback,
    RollbackToSavepoint,
}

/// One transaction that rebuilds.
#[derive(Debug)]
pub struct Rebuild {
    pub projections: Vec<(usize, Handler)>,
    pub end: End,
    /// What it sets for itself.
    pub setting: Option<String>,
    pub appends: Appends,
}

/// Whether a rebuild's transaction appends, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appends {
    No,
    /// Under the gate that the rebuild has closed.
    After,
    /// Before the rebuild, too: it has to close the gate first.
    Around,
}

#[derive(Debug)]
pub enum Action {
    Rebuild(Rebuild),
    Verify { projection: usize, isolation: Isolation, wait: u64 },
}

impl Action {
    /// Whether appends wait for more than the cut-over.
    pub fn keeps_gate(&self) -> bool {
        match self {
            Action::Rebuild(rebuild) => rebuild.projections.len() > 1 || rebuild.appends == Appends::Around,
            Action::Verify { .. } => false,
        }
    }

    pub fn describe(&self) -> String {
        match self {
            Action::Rebuild(Rebuild { projections, end, setting, appends }) => {
                let names: Vec<_> = projections
                    .iter()
                    .map(|&(projection, handler)| {
                        format!("{} {handler:?}", HANDLERS[projection % HANDLERS.len()].0)
                    })
                    .collect();
                let setting = setting.as_deref().unwrap_or("no setting");
                format!("rebuild {} ({end:?}, {setting}, appends: {appends:?})", names.join(", "))
            }
            Action::Verify { projection, isolation, wait } => {
                format!("verify {} ({isolation:?}, {wait} ms)", HANDLERS[projection % HANDLERS.len()].0)
            }
        }
    }
}

pub struct RebuildPlanner {
    rng: StdRng,
    /// No transaction closes the gate before it has replayed.
    short_gates: bool,
}

impl RebuildPlanner {
    pub fn new(seed: u64, number: u64, short_gates: bool) -> Self {
        Self { rng: generator(seed, 1000 + number), short_gates }
    }

    pub fn next_action(&mut self) -> Action {
        let projection = self.rng.random_range(0..HANDLERS.len());
        if self.rng.random_bool(0.15) {
            let isolation = Isolation::draw(&mut self.rng, 50, 40, 10);
            let wait = if self.rng.random_bool(0.5) { self.rng.random_range(0..=250) } else { 0 };
            return Action::Verify { projection, isolation, wait };
        }
        let mut projections = vec![(projection, self.handler())];
        if !self.short_gates && self.rng.random_bool(0.04) {
            let second = (projection + self.rng.random_range(1..HANDLERS.len())) % HANDLERS.len();
            projections.push((second, self.handler()));
        }
        let end = match self.rng.random_range(0..100) {
            0..50 => End::Alone,
            50..78 => End::Commit,
            78..92 => End::Rollback,
            _ => End::RollbackToSavepoint,
        };
        let setting = match self.rng.random_range(0..100) {
            0..5 => Some(format!("statement_timeout = {}", self.rng.random_range(5..=300))),
            5..10 => Some(format!("lock_timeout = {}", self.rng.random_range(1..=60))),
            10..25 => Some("work_mem = '64kB'".to_owned()),
            25..30 => Some(format!("refold.gate_timeout = {}", self.rng.random_range(1..=10))),
            _ => None,
        };
        let appends = match self.rng.random_range(0..100) {
            _ if end == End::Alone => Appends::No,
            0..10 => Appends::After,
            10..16 if !self.short_gates => Appends::Around,
            _ => Appends::No,
        };
        Action::Rebuild(Rebuild { projections, end, setting, appends })
    }

    fn handler(&mut self) -> Handler {
        let version = self.rng.random_range(1..=2);
        match self.rng.random_range(0..100) {
            0..60 => Handler::Named(version),
            60..90 => Handler::Replaced(version),
            _ => Handler::Same,
        }
    }

    /// For whoever found the projection in use, or gone.
    pub fn pause(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(1..=50))
    }
}

/// How a handler's arguments are called, and what their types are.
pub fn arguments(arguments: &str) -> (Vec<&str>, Vec<&str>) {
    arguments.split(", ").filter_map(|argument| argument.split_once(' ')).unzip()
}

/// The handler's wrapper: its body says which version it is, so that snapshots can tell.
pub fn replacement(name: &str, function: &str, version: u8) -> String {
    wrapper(name, function, version, "")
}

/// The same with PL/pgSQL statements in front.
pub fn wrapper(name: &str, function: &str, version: u8, statements: &str) -> String {
    let (_, declared, result) = HANDLERS.into_iter().find(|known| known.0 == name).unwrap_or(HANDLERS[0]);
    let call = format!("{name}_v{version}({})", arguments(declared).0.join(", "));
    let head = format!("CREATE OR REPLACE FUNCTION {function}({declared}) RETURNS {result}");
    let mark = format!("/* stress version {version} */");
    if statements.is_empty() && ["tally", "bill"].contains(&name) {
        return format!("{head} LANGUAGE sql AS $$ {mark} SELECT {call} $$");
    }
    let word = if result == "void" { "PERFORM" } else { "RETURN" };
    format!("{head} LANGUAGE plpgsql AS $$ BEGIN {mark} {statements} {word} {call}; END $$")
}
