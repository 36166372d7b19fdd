//! Workers, a thread each, that do the same thing over and over for a fixed time.

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// How long a round lasts.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub warm_up: Duration,
    pub time: Duration,
}

/// What a client does again and again.
pub trait Worker: Send {
    fn work(&mut self) -> Result<Done>;
}

/// What one call did.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Events appended or read.
    pub events: u64,
    /// How often the client had to try again.
    pub retries: u64,
}

/// What a round gave.
pub struct Run {
    /// Calls each second, over all clients.
    pub rate: f64,
    /// Of the calls, in microseconds.
    pub latency: Histogram<u64>,
    /// Appended or read, the warm-up included.
    pub events: u64,
    pub retries: u64,
}

/// Latencies up to ten minutes, to three digits.
pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000, 3)?)
}

pub fn record(latency: &mut Histogram<u64>, time: Duration) {
    latency.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
}

/// Runs all workers for the window's time.
pub fn drive(workers: &mut [Box<dyn Worker>], window: Window) -> Result<Run> {
    let barrier = Barrier::new(workers.len());
    let results = thread::scope(|scope| {
        let barrier = &barrier;
        let threads: Vec<_> = workers
            .iter_mut()
            .map(|worker| scope.spawn(move || repeat(worker.as_mut(), barrier, window)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    let mut sum = Run { rate: 0.0, latency: histogram()?, events: 0, retries: 0 };
    for run in results {
        sum.rate += run.rate;
        sum.latency.add(run.latency)?;
        sum.events += run.events;
        sum.retries += run.retries;
    }
    Ok(sum)
}

fn repeat(worker: &mut dyn Worker, barrier: &Barrier, window: Window) -> Result<Run> {
    let mut run = Run { rate: 0.0, latency: histogram()?, events: 0, retries: 0 };
    barrier.wait();
    let start = Instant::now();
    let mut before = start;
    let mut measured_from = None;
    while before - start < window.warm_up + window.time {
        let done = worker.work()?;
        let after = Instant::now();
        run.events += done.events;
        if before - start >= window.warm_up {
            measured_from.get_or_insert(before);
            record(&mut run.latency, after - before);
            run.retries += done.retries;
        }
        before = after;
    }
    if let Some(from) = measured_from {
        run.rate = run.latency.len() as f64 / (before - from).as_secs_f64();
    }
    Ok(run)
}
