//! What a run counts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::operation::Operation;
use crate::probe::Look;
use crate::shared::lock;

/// The longest wait of a kind, when it ended, and what was seen of it meanwhile.
#[derive(Debug, Clone)]
pub struct Longest {
    pub time: Duration,
    pub at: SystemTime,
    pub looks: Vec<Look>,
}

/// What one rebuild reports of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rebuilt {
    pub projection: &'static str,
    pub took: Duration,
    pub gate: Duration,
    /// Under the gate.
    pub events: i64,
    /// Deleted, updated, inserted.
    pub rows: i64,
    pub attempts: i32,
}

/// What rebuilds report of themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rebuilds {
    pub done: u64,
    pub rolled_back: u64,
    pub longest: Duration,
    /// That with the gate held longest.
    pub longest_gate: Rebuilt,
    pub most_attempts: i32,
}

#[derive(Debug, Default)]
pub struct Stats {
    transactions: AtomicU64,
    events: AtomicU64,
    prepared: AtomicU64,
    repeated: AtomicU64,
    refused: AtomicU64,
    looks: AtomicU64,
    polls: AtomicU64,
    verifications: AtomicU64,
    changes: AtomicU64,
    cancels: AtomicU64,
    terminations: AtomicU64,
    retried: Mutex<Retried>,
    rebuilds: Mutex<Rebuilds>,
    deeds: Mutex<BTreeMap<String, u64>>,
    errors: Mutex<BTreeMap<(Operation, String), u64>>,
    longest_append: Mutex<Option<Longest>>,
    longest_probe: Mutex<Option<Longest>>,
    longest_by_design: Mutex<Option<Longest>>,
}

/// What became of appends that were tried until they were acknowledged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retried {
    /// Answers that the client did not wait for.
    pub hung_up: u64,
    /// Of the appends whose answer was lost, in whatever way: those that were in the log.
    pub found: u64,
    /// Two clients, one event_id.
    pub raced: u64,
    /// Of these, those in which one was told that the id is taken: by another stream.
    pub taken: u64,
}

/// The counts at one moment.
#[derive(Debug, Clone)]
pub struct Numbers {
    pub transactions: u64,
    pub events: u64,
    pub prepared: u64,
    pub repeated: u64,
    pub refused: u64,
    pub looks: u64,
    pub polls: u64,
    pub verifications: u64,
    pub changes: u64,
    pub cancels: u64,
    pub terminations: u64,
    pub retried: Retried,
    pub rebuilds: Rebuilds,
    pub deeds: BTreeMap<String, u64>,
    pub errors: Vec<(Operation, String, u64)>,
    pub longest_append: Option<Longest>,
    pub longest_probe: Option<Longest>,
    pub longest_by_design: Option<Longest>,
}

impl Numbers {
    /// All deeds whose name begins so.
    pub fn deeds_like(&self, prefix: &str) -> u64 {
        self.deeds.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, count)| count).sum()
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

impl Stats {
    /// A transaction with so many events.
    pub fn committed(&self, events: usize) {
        add(&self.transactions, 1);
        add(&self.events, events);
    }

    pub fn prepared(&self) {
        add(&self.prepared, 1);
    }

    pub fn repeated(&self) {
        add(&self.repeated, 1);
    }

    pub fn refused(&self) {
        add(&self.refused, 1);
    }

    pub fn retried(&self, count: impl FnOnce(&mut Retried)) {
        count(&mut lock(&self.retried));
    }

    pub fn looked(&self) {
        add(&self.looks, 1);
    }

    pub fn polled(&self) {
        add(&self.polls, 1);
    }

    pub fn verified(&self) {
        add(&self.verifications, 1);
    }

    /// A creation, a drop, or an ALTER TABLE.
    pub fn changed(&self) {
        add(&self.changes, 1);
    }

    pub fn cancelled(&self) {
        add(&self.cancels, 1);
    }

    pub fn terminated(&self) {
        add(&self.terminations, 1);
    }

    pub fn rebuilt(&self, rebuilt: Rebuilt) {
        let mut rebuilds = lock(&self.rebuilds);
        rebuilds.done += 1;
        rebuilds.longest = rebuilds.longest.max(rebuilt.took);
        rebuilds.most_attempts = rebuilds.most_attempts.max(rebuilt.attempts);
        if rebuilt.gate > rebuilds.longest_gate.gate {
            rebuilds.longest_gate = rebuilt;
        }
    }

    pub fn rolled_back(&self) {
        lock(&self.rebuilds).rolled_back += 1;
    }

    /// Something that is counted by its name.
    pub fn count_deed(&self, name: &str) {
        *lock(&self.deeds).entry(name.to_owned()).or_default() += 1;
    }

    pub fn count_error(&self, operation: Operation, sqlstate: &str) {
        *lock(&self.errors).entry((operation, sqlstate.to_owned())).or_default() += 1;
    }

    /// Of a writer, who also waits for other writers of the same streams and keys.
    pub fn append_took(&self, started: Instant) {
        keep_longest(&self.longest_append, started.elapsed(), Vec::new());
    }

    /// Of the probe, who shares no stream and no key. Waits for those who keep the gate closed on purpose count apart.
    pub fn probe_took(&self, time: Duration, looks: Vec<Look>) {
        let by_design = looks.iter().any(|look| look.by_design);
        let longest = if by_design { &self.longest_by_design } else { &self.longest_probe };
        keep_longest(longest, time, looks);
    }

    pub fn numbers(&self) -> Numbers {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let errors = lock(&self.errors)
            .iter()
            .map(|((operation, state), n)| (*operation, state.clone(), *n))
            .collect();
        Numbers {
            transactions: read(&self.transactions),
            events: read(&self.events),
            prepared: read(&self.prepared),
            repeated: read(&self.repeated),
            refused: read(&self.refused),
            looks: read(&self.looks),
            polls: read(&self.polls),
            verifications: read(&self.verifications),
            changes: read(&self.changes),
            cancels: read(&self.cancels),
            terminations: read(&self.terminations),
            retried: *lock(&self.retried),
            rebuilds: *lock(&self.rebuilds),
            deeds: lock(&self.deeds).clone(),
            errors,
            longest_append: lock(&self.longest_append).clone(),
            longest_probe: lock(&self.longest_probe).clone(),
            longest_by_design: lock(&self.longest_by_design).clone(),
        }
    }
}

fn keep_longest(longest: &Mutex<Option<Longest>>, time: Duration, looks: Vec<Look>) {
    let mut longest = lock(longest);
    if longest.as_ref().is_none_or(|known| known.time < time) {
        *longest = Some(Longest { time, at: SystemTime::now(), looks });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_by_design_count_apart() {
        let stats = Stats::default();
        let looks = |by_design| vec![Look { by_design, ..Look::default() }];
        stats.probe_took(Duration::from_millis(3), looks(false));
        stats.probe_took(Duration::from_millis(9), looks(true));
        stats.probe_took(Duration::from_millis(2), Vec::new());
        let Numbers { longest_probe, longest_by_design, .. } = stats.numbers();
        let millis = |longest: Option<Longest>| longest.map(|longest| longest.time.as_millis());
        assert_eq!((millis(longest_probe), millis(longest_by_design)), (Some(3), Some(9)));
    }
}
