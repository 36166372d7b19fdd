//! What the threads of a run count, and the numbers of it that are shown while it runs and at its end.

use anyhow::Result;
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::protocol::{Progress, Rebuild};

/// In microseconds; what takes longer counts as this.
const LONGEST_LATENCY: u64 = 600_000_000;

/// Shared by the threads of one run.
pub struct Stats {
    latency: Mutex<Histogram<u64>>,
    rebuilds: Mutex<Rebuilds>,
    progress: Mutex<Option<Progress>>,
    pub appends: AtomicU64,
    pub slow: AtomicU64,
    pub rolled_back: AtomicU64,
    pub retries: AtomicU64,
    pub looks: AtomicU64,
    pub torn_looks: AtomicU64,
}

/// The rebuilds of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rebuilds {
    pub done: u64,
    /// Gave up in good order because the locks were not to be had in time.
    pub gave_up: u64,
    pub longest: Duration,
    pub longest_gate: Duration,
    pub most_gate_attempts: u32,
}

/// The numbers at one moment.
#[derive(Debug, Clone)]
pub struct Numbers {
    pub appends: u64,
    pub p50: Duration,
    pub p99: Duration,
    pub longest: Duration,
    pub rebuilds: Rebuilds,
    pub progress: Option<Progress>,
    pub slow: u64,
    pub rolled_back: u64,
    pub retries: u64,
    pub looks: u64,
    pub torn_looks: u64,
}

impl Stats {
    pub fn new() -> Result<Self> {
        Ok(Self {
            latency: Mutex::new(Histogram::new_with_bounds(1, LONGEST_LATENCY, 3)?),
            rebuilds: Mutex::default(),
            progress: Mutex::default(),
            appends: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            rolled_back: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            looks: AtomicU64::new(0),
            torn_looks: AtomicU64::new(0),
        })
    }

    pub fn record_append(&self, took: Duration) {
        lock(&self.latency).saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn record_rebuild(&self, rebuild: &Rebuild) {
        let mut rebuilds = lock(&self.rebuilds);
        rebuilds.done += 1;
        rebuilds.longest = rebuilds.longest.max(rebuild.took);
        rebuilds.longest_gate = rebuilds.longest_gate.max(rebuild.gate);
        rebuilds.most_gate_attempts = rebuilds.most_gate_attempts.max(rebuild.gate_attempts);
    }

    pub fn record_gave_up(&self) {
        lock(&self.rebuilds).gave_up += 1;
    }

    pub fn show_progress(&self, progress: Option<Progress>) {
        *lock(&self.progress) = progress;
    }

    pub fn numbers(&self) -> Numbers {
        let (p50, p99, longest) = {
            let latency = lock(&self.latency);
            let at = |quantile| Duration::from_micros(latency.value_at_quantile(quantile));
            (at(0.5), at(0.99), Duration::from_micros(latency.max()))
        };
        Numbers {
            appends: count(&self.appends),
            p50,
            p99,
            longest,
            rebuilds: *lock(&self.rebuilds),
            progress: lock(&self.progress).clone(),
            slow: count(&self.slow),
            rolled_back: count(&self.rolled_back),
            retries: count(&self.retries),
            looks: count(&self.looks),
            torn_looks: count(&self.torn_looks),
        }
    }
}

/// Adds one.
pub fn tally(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
