//! What a run counts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::operation::Operation;
use crate::shared::lock;

/// The longest wait of a kind, and when it ended.
#[derive(Debug, Clone, Copy)]
pub struct Longest {
    pub time: Duration,
    pub at: SystemTime,
}

/// What rebuilds report of themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rebuilds {
    pub done: u64,
    pub rolled_back: u64,
    pub longest: Duration,
    pub longest_gate: Duration,
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
    rebuilds: Mutex<Rebuilds>,
    errors: Mutex<BTreeMap<(Operation, String), u64>>,
    longest_append: Mutex<Option<Longest>>,
    longest_probe: Mutex<Option<Longest>>,
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
    pub rebuilds: Rebuilds,
    pub errors: Vec<(Operation, String, u64)>,
    pub longest_append: Option<Longest>,
    pub longest_probe: Option<Longest>,
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

    pub fn rebuilt(&self, took: Duration, gate: Duration, attempts: i32) {
        let mut rebuilds = lock(&self.rebuilds);
        rebuilds.done += 1;
        rebuilds.longest = rebuilds.longest.max(took);
        rebuilds.longest_gate = rebuilds.longest_gate.max(gate);
        rebuilds.most_attempts = rebuilds.most_attempts.max(attempts);
    }

    pub fn rolled_back(&self) {
        lock(&self.rebuilds).rolled_back += 1;
    }

    pub fn count_error(&self, operation: Operation, sqlstate: &str) {
        *lock(&self.errors).entry((operation, sqlstate.to_owned())).or_default() += 1;
    }

    /// Of a writer, who also waits for other writers of the same streams and keys.
    pub fn append_took(&self, started: Instant) {
        keep_longest(&self.longest_append, started.elapsed());
    }

    /// Of the probe, who shares no stream and no key: what it waits for is the gate or a table.
    pub fn probe_took(&self, started: Instant) {
        keep_longest(&self.longest_probe, started.elapsed());
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
            rebuilds: *lock(&self.rebuilds),
            errors,
            longest_append: *lock(&self.longest_append),
            longest_probe: *lock(&self.longest_probe),
        }
    }
}

fn keep_longest(longest: &Mutex<Option<Longest>>, time: Duration) {
    let mut longest = lock(longest);
    if longest.is_none_or(|known| known.time < time) {
        *longest = Some(Longest { time, at: SystemTime::now() });
    }
}
