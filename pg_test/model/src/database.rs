//! What the protocols keep in PostgreSQL: the log, the registry, the job, the heaps of the read model.

use crate::kernel::{Locks, Snapshot, Transactions, Versions, Xid};
use std::collections::BTreeMap;

/// Orders the log.
pub type Position = u8;

/// A row of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Event {
    pub position: Position,
    pub stream: char,
    /// The row of the read model that it feeds.
    pub key: char,
    pub xid: Xid,
}

/// An event as a row of the read model has taken it: by which logic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Applied {
    pub position: Position,
    pub logic: u8,
}

/// A row of the read model: the events folded into it, in the order in which they were.
pub type Row = Vec<Applied>;

/// One storage of the read model.
pub type Heap = BTreeMap<char, Versions<Row>>;

/// What an append has to do for the projection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    #[default]
    Active,
    /// The published status: the append skips, the rebuild will see to it.
    Rebuilding,
    /// The append applies the old logic to live and the new one to the shadow.
    Mirroring,
    /// The append skips; readers see a prefix of the log.
    Skipping,
}

/// The projection's row in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Projection {
    pub phase: Phase,
    pub logic: u8,
    /// Of the other model: the next one, or in a grace period the one before.
    pub other_logic: u8,
    pub generation: u8,
}

impl Default for Projection {
    fn default() -> Self {
        Self { phase: Phase::Active, logic: 0, other_logic: 1, generation: 0 }
    }
}

impl Projection {
    /// The new logic is live, and appends know of one model only.
    pub fn rebuilt(self) -> Self {
        Self { phase: Phase::Active, logic: self.other_logic, other_logic: self.other_logic + 1, ..self }
    }

    /// Two models have changed places.
    pub fn swapped(self, phase: Phase) -> Self {
        Self { phase, logic: self.other_logic, other_logic: self.logic, ..self }
    }
}

/// The row of a background job: how far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Job {
    pub stage: Stage,
    /// Replayed up to here.
    pub done: Position,
    /// Which worker's it is.
    pub epoch: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Stage {
    #[default]
    Building,
    /// Appends know of it; what is to be filled is not empty yet.
    Emptying,
    Waiting,
    /// The new model is live, and the old one is kept up.
    Grace,
    Finished,
}

/// A read model that exists twice: live is what readers see, the shadow what a rebuild fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Live,
    Shadow,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Database {
    pub transactions: Transactions,
    pub locks: Locks,
    /// The snapshots that transactions keep, by session.
    pub kept: Vec<Option<Snapshot>>,
    /// Which sessions have an invalidation waiting for them.
    pub invalidated: Vec<bool>,
    pub last_value: Position,
    /// By position.
    pub log: Vec<Event>,
    pub projection: Versions<Projection>,
    pub job: Versions<Job>,
    pub heaps: [Heap; 2],
    /// Which of the heaps is the live table's storage.
    pub live: Versions<usize>,
    /// Events whose append has left them to a later drain.
    pub skipped: Vec<(Position, Xid)>,
    /// The transactions whose mirroring failed, and the generation in which it did.
    pub mirror_failures: Vec<(u8, Xid)>,
    /// How many more times something may go wrong that need not.
    pub mishaps: u8,
}

impl Database {
    /// An empty log and an empty model with these keys, for so many sessions.
    pub fn new(sessions: usize, keys: &[char]) -> Self {
        let heap: Heap = keys.iter().map(|&key| (key, Versions::new(Row::new()))).collect();
        Self {
            transactions: Transactions::default(),
            locks: Locks::default(),
            kept: vec![None; sessions],
            invalidated: vec![false; sessions],
            last_value: 0,
            log: Vec::new(),
            projection: Versions::new(Projection::default()),
            job: Versions::new(Job::default()),
            heaps: [heap.clone(), heap],
            live: Versions::new(0),
            skipped: Vec::new(),
            mirror_failures: Vec::new(),
            mishaps: 0,
        }
    }

    /// What a statement that begins now in nobody's transaction sees.
    pub fn newest(&self) -> Snapshot {
        self.transactions.snapshot(None)
    }

    /// The heap behind a table's name, as whoever has the table's lock finds it.
    pub fn heap_of(&self, table: Table) -> usize {
        let live = *self.live.seen_by(&self.newest());
        match table {
            Table::Live => live,
            Table::Shadow => 1 - live,
        }
    }

    /// The events that a snapshot sees, in their order.
    pub fn events_seen_by(&self, snapshot: Snapshot) -> impl Iterator<Item = &Event> {
        self.log.iter().filter(move |event| snapshot.sees(event.xid))
    }

    pub fn insert_event(&mut self, event: Event) {
        self.log.push(event);
        self.log.sort_unstable();
    }

    /// Takes back all that a transaction has written. A drawn position stays drawn.
    pub fn undo(&mut self, xid: Xid) {
        self.log.retain(|event| event.xid != xid);
        self.skipped.retain(|(_, skipper)| *skipper != xid);
        self.mirror_failures.retain(|(_, failed)| *failed != xid);
        self.projection.undo(xid);
        self.job.undo(xid);
        self.live.undo(xid);
        for row in self.heaps.iter_mut().flat_map(BTreeMap::values_mut) {
            row.undo(xid);
        }
    }
}
