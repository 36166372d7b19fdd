//! A session while it runs one step of its program: the statements it can make.

use crate::database::{Applied, Database, Event, Job, Phase, Position, Projection, Row, Stage, Table};
use crate::kernel::{Locked, Mode, Request, Snapshot, Target, Xid, XidSet};
use crate::program::Flow;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// A snapshot for each statement.
    ReadCommitted,
    /// One snapshot, taken by the first statement.
    RepeatableRead,
}

/// What a session remembers until its transaction ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Memory {
    /// The registry's row, as last read.
    pub projection: Projection,
    /// Whether what was tried last was had.
    pub got: bool,
    /// The position of the event just inserted.
    pub position: Position,
    /// A position read from the sequence.
    pub limit: Position,
    /// Replayed up to here.
    pub done: Position,
    /// The transactions whose end is waited for.
    pub waits_for: XidSet,
    /// A snapshot that is used again, where a protocol does that.
    pub snapshot: Option<Snapshot>,
    /// The copy of the read model that only this transaction sees.
    pub copy: BTreeMap<char, Row>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Session {
    pub number: usize,
    /// The step it is at; past the last one it has ended.
    pub at: usize,
    pub open: Option<Isolation>,
    /// Transactions so far, and how often the program was repeated.
    pub transactions: u8,
    pub rounds: u8,
    /// How often a transaction of it has failed.
    pub retries: u8,
    pub memory: Memory,
    /// The registry's row as this backend keeps it, until an invalidation comes.
    pub cache: Option<Projection>,
    /// As a backend would whose cache is broken.
    pub ignores_invalidations: bool,
    /// By which a worker knows that the job is still its own.
    pub epoch: Option<u8>,
    /// Whether it looks at that when it writes the job's row.
    pub fenced: bool,
    /// Inside a commit nothing interrupts.
    pub committing: bool,
}

impl Session {
    pub fn new(number: usize) -> Self {
        Self {
            number,
            at: 0,
            open: None,
            transactions: 0,
            rounds: 0,
            retries: 0,
            memory: Memory::default(),
            cache: None,
            ignores_invalidations: false,
            epoch: None,
            fenced: false,
            committing: false,
        }
    }

    pub fn xid(&self) -> Xid {
        Xid::new(self.number, self.transactions)
    }
}

/// One session at work.
pub struct Act<'a> {
    pub db: &'a mut Database,
    pub me: &'a mut Session,
    /// What happens, in words, where somebody listens.
    pub told: Option<&'a mut Vec<String>>,
}

impl Act<'_> {
    pub fn say(&mut self, words: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(words());
        }
    }

    pub fn begin(&mut self, isolation: Isolation) {
        let xid = self.me.xid();
        self.db.transactions.begin(xid);
        self.me.open = Some(isolation);
    }

    /// The snapshot of a statement that begins now.
    pub fn snapshot(&mut self) -> Snapshot {
        let now = self.newest();
        match self.me.open {
            Some(Isolation::RepeatableRead) => *self.db.kept[self.me.number].get_or_insert(now),
            _ => now,
        }
    }

    /// The newest snapshot, whatever the isolation level.
    pub fn newest(&self) -> Snapshot {
        self.db.transactions.snapshot(self.me.open.map(|_| self.me.xid()))
    }

    fn kept(&self) -> Option<Snapshot> {
        self.db.kept[self.me.number]
    }

    /// Waits for a lock, to the transaction's end.
    pub fn lock(&mut self, target: Target, mode: Mode) -> Flow {
        self.lock_for(target, mode, self.me.xid())
    }

    /// Waits for a lock, to the session's end.
    pub fn lock_for_session(&mut self, target: Target, mode: Mode) -> Flow {
        self.lock_for(target, mode, Xid::INITIAL)
    }

    fn lock_for(&mut self, target: Target, mode: Mode, xid: Xid) -> Flow {
        let number = self.me.number;
        if self.db.locks.is_waiting(target, number) {
            return Flow::Wait;
        }
        if self.db.locks.holds(target, number, mode) {
            self.accept_invalidations();
            self.say(|| format!("gets {mode} on {target}"));
            return Flow::Next;
        }
        if self.db.locks.request(target, Request { session: number, xid, mode }) {
            self.accept_invalidations();
            self.say(|| format!("takes {mode} on {target}"));
            Flow::Next
        } else {
            self.say(|| format!("wants {mode} on {target}, and waits in its queue"));
            Flow::Stay
        }
    }

    /// Takes a lock if it can be had at once, to the transaction's end.
    pub fn try_lock(&mut self, target: Target, mode: Mode) -> bool {
        let request = Request { session: self.me.number, xid: self.me.xid(), mode };
        let got = self.db.locks.request_at_once(target, request);
        if got {
            self.accept_invalidations();
        }
        got
    }

    /// Gives a lock back before the transaction ends.
    pub fn unlock(&mut self, target: Target, mode: Mode) {
        self.db.locks.release(target, self.me.number, mode);
    }

    /// The wait for a lock takes too long: true if there was one.
    pub fn give_up_waiting(&mut self, target: Target) -> bool {
        let waiting = self.db.locks.is_waiting(target, self.me.number);
        if waiting {
            self.db.locks.withdraw(target, self.me.number);
            self.say(|| format!("gives up waiting for {target}"));
        }
        waiting
    }

    /// WaitForLockers, first half: remembers who holds the lock in a mode that conflicts.
    pub fn note_holders(&mut self, target: Target, mode: Mode) -> Flow {
        let holders = self.db.locks.holders_against(target, self.me.number, mode);
        self.note(holders, || format!("holds {target}"))
    }

    /// Remembers whose end to wait for, in the next step; if there is nobody, that is left out.
    pub fn note(&mut self, whom: XidSet, words: impl Fn() -> String) -> Flow {
        self.me.memory.waits_for = whom;
        self.say(|| match whom.is_empty() {
            true => format!("finds nobody who {}", words()),
            false => format!("waits for whoever {}", words()),
        });
        if whom.is_empty() { Flow::Over } else { Flow::Next }
    }

    /// WaitForLockers, second half: until they have ended. Nothing is requested, nobody queues behind.
    pub fn await_noted(&mut self) -> bool {
        let over = self.me.memory.waits_for.intersection(self.db.transactions.open()).is_empty();
        if over {
            self.me.memory.waits_for = XidSet::default();
        }
        over
    }

    fn accept_invalidations(&mut self) {
        let invalidated = std::mem::take(&mut self.db.invalidated[self.me.number]);
        if invalidated && !self.me.ignores_invalidations {
            self.me.cache = None;
        }
    }

    /// Draws a position and inserts an event there. The draw holds a lock on the sequence to the transaction's end.
    pub fn insert_event(&mut self, stream: char, key: char) {
        self.try_lock(Target::Sequence, Mode::RowExclusive);
        self.db.last_value += 1;
        let position = self.db.last_value;
        self.me.memory.position = position;
        let xid = self.me.xid();
        self.db.insert_event(Event { position, stream, key, xid });
        self.say(|| format!("draws position {position} and inserts its event there, for row {key}"));
    }

    /// Folds an event into its row with one logic, or waits for the row, or fails.
    pub fn apply(&mut self, table: Table, event: Event, logic: u8) -> Flow {
        let (xid, kept) = (self.me.xid(), self.kept());
        let heap = self.db.heap_of(table);
        let Some(row) = self.db.heaps[heap].get_mut(&event.key) else { return Flow::Next };
        match row.lock(xid, kept.as_ref(), &self.db.transactions) {
            Locked::Busy => Flow::Wait,
            Locked::Changed => Flow::Fail("the row has changed since its snapshot (40001)"),
            Locked::Yes => {
                let mut applied = row.newest().clone();
                applied.push(Applied { position: event.position, logic });
                row.write(xid, applied);
                Flow::Next
            }
        }
    }

    /// Replaces rows; the caller excludes other writers.
    pub fn write_rows(&mut self, table: Table, rows: BTreeMap<char, Row>) {
        let (heap, xid) = (self.db.heap_of(table), self.me.xid());
        for (key, row) in rows {
            if let Some(versions) = self.db.heaps[heap].get_mut(&key)
                && *versions.newest() != row
            {
                versions.write(xid, row);
            }
        }
    }

    /// The rows that a statement beginning now sees.
    pub fn read_rows(&mut self, table: Table) -> BTreeMap<char, Row> {
        let snapshot = self.snapshot();
        let heap = self.db.heap_of(table);
        self.db.heaps[heap].iter().map(|(&key, row)| (key, row.seen_by(&snapshot).clone())).collect()
    }

    /// The events after one position and up to another that a statement beginning now sees.
    pub fn read_log(&mut self, after: Position, up_to: Position) -> Vec<Event> {
        let snapshot = self.snapshot();
        let within = |event: &&Event| event.position > after && event.position <= up_to;
        self.db.events_seen_by(snapshot).filter(within).copied().collect()
    }

    pub fn read_projection(&self, snapshot: Snapshot) -> Projection {
        *self.db.projection.seen_by(&snapshot)
    }

    /// Writes the registry's row; the commit will invalidate it everywhere.
    pub fn write_projection(&mut self, projection: Projection) {
        self.db.projection.write(self.me.xid(), projection);
    }

    /// Writes the job's row, if it still is this worker's: another one may have taken it over.
    pub fn write_job(&mut self, stage: Stage, done: Position) -> Flow {
        match self.db.job.lock(self.me.xid(), None, &self.db.transactions) {
            Locked::Busy => return Flow::Wait,
            Locked::Yes | Locked::Changed => {}
        }
        let epoch = self.db.job.newest().epoch;
        if self.me.fenced && self.me.epoch != Some(epoch) {
            self.say(|| "finds that another worker has the job".into());
            self.abort();
            return Flow::End;
        }
        self.db.job.write(self.me.xid(), Job { stage, done, epoch });
        Flow::Next
    }

    /// Whether, as a new snapshot sees it, nobody has taken the job from this worker.
    pub fn owns_job(&self) -> bool {
        self.me.epoch == Some(self.db.job.seen_by(&self.newest()).epoch)
    }

    /// Takes the job from its worker, in whose name nothing is written any more.
    pub fn end_job(&mut self) -> Flow {
        match self.db.job.lock(self.me.xid(), None, &self.db.transactions) {
            Locked::Busy => return Flow::Wait,
            Locked::Yes | Locked::Changed => {}
        }
        let job = *self.db.job.newest();
        self.db.job.write(self.me.xid(), Job { stage: Stage::Finished, epoch: job.epoch + 1, ..job });
        Flow::Next
    }

    /// Makes the job this worker's.
    pub fn take_job(&mut self) -> Flow {
        match self.db.job.lock(self.me.xid(), None, &self.db.transactions) {
            Locked::Busy => return Flow::Wait,
            Locked::Yes | Locked::Changed => {}
        }
        let job = *self.db.job.newest();
        self.me.epoch = Some(job.epoch + 1);
        self.db.job.write(self.me.xid(), Job { epoch: job.epoch + 1, ..job });
        self.say(|| format!("takes the job, as epoch {}", job.epoch + 1));
        Flow::Next
    }

    /// The first moment of a commit.
    pub fn make_visible(&mut self) {
        self.me.committing = true;
        self.db.transactions.make_visible(self.me.xid());
        self.db.kept[self.me.number] = None;
    }

    /// The second: tells all backends that the registry has changed.
    pub fn send_invalidations(&mut self) {
        for (session, invalidated) in self.db.invalidated.iter_mut().enumerate() {
            *invalidated |= session != self.me.number;
        }
        self.me.cache = None;
    }

    /// The last moment of a commit.
    pub fn release_locks(&mut self) {
        self.end();
    }

    pub fn abort(&mut self) {
        self.db.undo(self.me.xid());
        self.end();
    }

    fn end(&mut self) {
        if self.me.open.take().is_some() {
            self.db.transactions.end(self.me.xid());
            self.db.locks.release_all(self.me.number, self.me.xid());
            self.db.kept[self.me.number] = None;
            self.me.transactions += 1;
        }
        self.me.committing = false;
        self.me.memory = Memory::default();
    }
}

/// The registry's words for what an append does.
pub fn in_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Active => "active",
        Phase::Rebuilding => "rebuilding",
        Phase::Mirroring => "mirroring",
        Phase::Skipping => "skipping",
    }
}
