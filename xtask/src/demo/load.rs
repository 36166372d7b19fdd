//! One run of the shop on one store: clients that append, a straggler that commits late, a rebuilder, a reader, and the
//! thread that shows what they do.

use anyhow::{Context, Result, anyhow};
use postgres::{Client, Config};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::client::{self, Writer};
use super::plan::Planner;
use super::protocol::{PROJECTIONS, Protocol, connect};
use super::sql_error::{explain, is_lock_timeout, is_retryable};
use super::stats::{Numbers, Stats, tally};
use super::view::View;

const CHECK: &str = include_str!("sql/check.sql");
const LOOK: &str = include_str!("sql/reader.sql");

/// How long the straggler keeps its transaction open at most: refold's rebuilds wait for it.
const STRAGGLER_HOLD: Duration = Duration::from_millis(400);
/// Time for the clients between the last rebuild and the last check.
const SETTLE: Duration = Duration::from_millis(300);

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub protocol: Protocol,
    pub duration: Duration,
    pub writers: u64,
    pub seed: u64,
    pub show: bool,
}

/// What a run leaves behind, apart from the database.
#[derive(Debug)]
pub struct Outcome {
    pub protocol: Protocol,
    pub elapsed: Duration,
    pub numbers: Numbers,
    /// The positions the clients were told are committed.
    pub acknowledged: Vec<i64>,
    pub rebuilt: Rebuilt,
}

/// What the rebuilder leaves behind.
#[derive(Debug, Clone, Copy)]
pub struct Rebuilt {
    /// The handler version each projection was last rebuilt with, in the order of `PROJECTIONS`.
    pub versions: [i32; 2],
    /// The number of the pass of checks to come.
    pub next_pass: i32,
}

/// What the threads tell each other.
pub struct Signals {
    stop_rebuilds: AtomicBool,
    stop: AtomicBool,
    rebuilds_ended: AtomicU64,
}

impl Signals {
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn stop_all(&self) {
        self.stop_rebuilds.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Runs the shop against the database of `config`, which is set up, until the time is over.
pub fn run(config: &Config, load: Load) -> Result<Outcome> {
    let signals = Signals {
        stop_rebuilds: AtomicBool::new(false),
        stop: AtomicBool::new(false),
        rebuilds_ended: AtomicU64::new(0),
    };
    let stats = Stats::new()?;
    let start = Instant::now();
    let (acknowledged, rebuilt) = thread::scope(|scope| {
        // Whoever fails stops the others.
        let guarded = |work: &dyn Fn() -> Result<Vec<i64>>| {
            let result = work();
            if result.is_err() {
                signals.stop_all();
            }
            result
        };
        let (signals, stats) = (&signals, &stats);
        let mut clients: Vec<ScopedJoinHandle<Result<Vec<i64>>>> = Vec::new();
        for number in 1..=load.writers {
            clients.push(scope.spawn(move || {
                guarded(&|| Writer::connect(config, load, number, stats)?.run(signals))
                    .with_context(|| format!("client {number} failed"))
            }));
        }
        clients.push(scope.spawn(move || {
            guarded(&|| straggle(config, load, signals, stats)).context("the straggler failed")
        }));
        clients.push(scope.spawn(move || {
            guarded(&|| read(config, signals, stats).map(|()| Vec::new())).context("the reader failed")
        }));
        let rebuilder = scope.spawn(move || {
            let rebuilt = rebuild(config, load.protocol, signals, stats).context("the rebuilder failed");
            if rebuilt.is_err() {
                signals.stop_all();
            }
            rebuilt
        });

        let watched = watch(config, load, signals, stats, &rebuilder);
        signals.stop_all();
        let mut acknowledged = Vec::new();
        for client in clients {
            acknowledged.extend(join(client)?);
        }
        let rebuilt = join(rebuilder)?;
        watched?;
        anyhow::Ok((acknowledged, rebuilt))
    })?;
    let mut outcome = Outcome {
        protocol: load.protocol,
        elapsed: start.elapsed(),
        numbers: stats.numbers(),
        acknowledged,
        rebuilt,
    };
    let mut client = connect(config)?;
    for projection in PROJECTIONS {
        check(&mut client, outcome.rebuilt.next_pass, projection)?;
    }
    outcome.rebuilt.next_pass += 1;
    Ok(outcome)
}

/// The same SQL, before each rebuild and at the end: compares a model with the log, event by event.
fn check(client: &mut Client, pass: i32, projection: &str) -> Result<()> {
    client
        .execute(CHECK, &[&pass, &projection])
        .map_err(explain)
        .with_context(|| format!("could not compare {projection} with the log"))?;
    Ok(())
}

/// Rebuilds back to back, the projections in turn, each time with the other version of its handler.
fn rebuild(config: &Config, protocol: Protocol, signals: &Signals, stats: &Stats) -> Result<Rebuilt> {
    let mut client = connect(config)?;
    let mut rebuilt = Rebuilt { versions: [1; 2], next_pass: 0 };
    // Even the shortest run rebuilds each once.
    let mut fewest = PROJECTIONS.len();
    while fewest > 0 || !signals.stop_rebuilds.load(Ordering::Relaxed) {
        for (projection, current) in PROJECTIONS.into_iter().zip(&mut rebuilt.versions) {
            check(&mut client, rebuilt.next_pass, projection)?;
            rebuilt.next_pass += 1;
            let version = 3 - *current;
            let result = protocol.rebuild(&mut client, projection, version);
            signals.rebuilds_ended.fetch_add(1, Ordering::Relaxed);
            match result {
                Ok(rebuild) => {
                    stats.record_rebuild(&rebuild);
                    *current = version;
                    fewest = fewest.saturating_sub(1);
                }
                Err(error) if is_lock_timeout(&error) => stats.record_gave_up(),
                Err(error) if is_retryable(&error) => tally(&stats.retries),
                Err(error) => return Err(explain(error).context(format!("rebuilding {projection}"))),
            }
            if signals.is_stopped() {
                return Ok(rebuilt);
            }
        }
    }
    Ok(rebuilt)
}

/// The shop's slowest client: appends while a rebuild runs and commits when that is over, or when it has waited
/// long enough. Without it the same happens by chance.
fn straggle(config: &Config, load: Load, signals: &Signals, stats: &Stats) -> Result<Vec<i64>> {
    let mut planner = Planner::new(load.seed, 0);
    let mut client = connect(config)?;
    let append = load.protocol.prepare_append(&mut client)?;
    let mut acknowledged = Vec::new();
    while !signals.is_stopped() {
        let ended_before = signals.rebuilds_ended.load(Ordering::Relaxed);
        if load.protocol.progress(&mut client)?.is_none() {
            thread::sleep(Duration::from_millis(2));
            continue;
        }
        let draft = planner.next_straggler();
        let appended = client::in_transaction(&mut client, |transaction| {
            let position = client::append(transaction, &append, &draft, stats)?;
            let start = Instant::now();
            while signals.rebuilds_ended.load(Ordering::Relaxed) == ended_before
                && start.elapsed() < STRAGGLER_HOLD
            {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(position)
        });
        match appended {
            Ok(position) => {
                tally(&stats.appends);
                tally(&stats.slow);
                acknowledged.push(position);
            }
            Err(error) if is_retryable(&error) => tally(&stats.retries),
            Err(error) => return Err(explain(error)),
        }
        thread::sleep(planner.next_pause());
    }
    Ok(acknowledged)
}

/// Compares log and models as any reader sees them: in one snapshot, also while a rebuild runs.
fn read(config: &Config, signals: &Signals, stats: &Stats) -> Result<()> {
    let mut client = connect(config)?;
    let look = client.prepare(LOOK).map_err(explain)?;
    while !signals.is_stopped() {
        let whole: bool = client.query_one(&look, &[]).map_err(explain)?.try_get(0)?;
        tally(&stats.looks);
        if !whole {
            tally(&stats.torn_looks);
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Shows the run until its time is over, the last rebuild has ended and the clients had time to commit.
fn watch(
    config: &Config,
    load: Load,
    signals: &Signals,
    stats: &Stats,
    rebuilder: &ScopedJoinHandle<Result<Rebuilt>>,
) -> Result<()> {
    let mut client = connect(config)?;
    let mut view = View::open(load.protocol.title(), load.duration, load.show);
    let start = Instant::now();
    let mut rebuilder_ended = None;
    while !signals.is_stopped() {
        stats.show_progress(load.protocol.progress(&mut client)?);
        view.update(start.elapsed(), &stats.numbers());
        if start.elapsed() >= load.duration {
            signals.stop_rebuilds.store(true, Ordering::Relaxed);
        }
        if rebuilder.is_finished() && rebuilder_ended.get_or_insert_with(Instant::now).elapsed() >= SETTLE {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    view.close();
    Ok(())
}

fn join<T>(handle: ScopedJoinHandle<Result<T>>) -> Result<T> {
    handle.join().map_err(|_| anyhow!("a thread of the demo panicked"))?
}
