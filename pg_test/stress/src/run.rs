//! One run: all threads, and the checks at the end.

use anyhow::{Context, Result, anyhow};
use postgres::Config;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::appender::Appender;
use crate::chaos;
use crate::controller::{self, Controller};
use crate::crasher::{self, Crasher};
use crate::deployer::Deployer;
use crate::final_checks;
use crate::finisher;
use crate::operator::Operator;
use crate::oracle::Looks;
use crate::poller::{Followed, Poller, Source};
use crate::probe;
use crate::reader::Reader;
use crate::rebuilder::Rebuilder;
use crate::report::Report;
use crate::retrier::Retrier;
use crate::session::APP;
use crate::shared::Shared;
use crate::world;

const REBUILDERS: u64 = 3;
const OPERATORS: u64 = 2;
const RETRIERS: u64 = 1;
const READERS: u64 = 2;
const PULSE: Duration = Duration::from_millis(20);

/// What to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    pub seconds: u64,
    pub seed: u64,
    pub writers: u64,
    /// Without transactions that close the gate and then do more than cut over: appends wait for those by design.
    pub short_gates: bool,
    /// Prints a line every few seconds.
    pub show: bool,
}

/// Runs the workload in the empty database of `config`, which names a superuser.
pub fn run(config: &Config, options: Options) -> Result<Report> {
    world::set_up(config)?;
    world::lengthen(config)?;
    run_prepared(config, options)
}

/// The same on a server that is brought down meanwhile.
pub fn run_with_crashes(config: &Config, options: Options, crash: Crasher) -> Result<Report> {
    world::set_up(config)?;
    world::lengthen(config)?;
    run_all(config, options, Some(crash))
}

/// As [`run`], in a database that was set up.
pub fn run_prepared(config: &Config, options: Options) -> Result<Report> {
    run_all(config, options, None)
}

fn run_all(config: &Config, options: Options, crash: Option<Crasher>) -> Result<Report> {
    let shared = Shared::new(config, options.seed);
    let started = Instant::now();
    let result =
        load(&shared, options, crash).and_then(|mut followed| final_checks::check(&shared, &mut followed));
    let report = |whole| Report::new(options, started.elapsed(), shared.stats.numbers(), whole);
    match result {
        Ok(whole) => Ok(report(Some(whole))),
        Err(error) => Err(error.context(format!(
            "the run with seed {} and {} writers failed after {:.1?}\n{}",
            options.seed,
            options.writers,
            started.elapsed(),
            report(None)
        ))),
    }
}

fn load(shared: &Shared, options: Options, crash: Option<Crasher>) -> Result<Vec<Followed>> {
    let is_load_joined = AtomicBool::new(false);
    let read_joined = || is_load_joined.load(Ordering::Acquire);
    thread::scope(|scope| {
        let mut load = Vec::new();
        for writer in 1..=options.writers {
            load.push(start(scope, shared, format!("writer {writer}"), move || {
                Appender::open(shared, writer)?.run()
            }));
        }
        for number in 1..=RETRIERS {
            load.push(start(scope, shared, format!("retrier {number}"), move || {
                Retrier::open(shared, number)?.run()
            }));
        }
        for number in 1..=REBUILDERS {
            load.push(start(scope, shared, format!("rebuilder {number}"), move || {
                Rebuilder::open(shared, number, options.short_gates)?.run()
            }));
        }
        for number in 1..=OPERATORS {
            load.push(start(scope, shared, format!("operator {number}"), move || {
                Operator::open(shared, number)?.run()
            }));
        }
        load.push(start(scope, shared, "controller".to_owned(), move || Controller::open(shared)?.run()));
        if let Some(crash) = crash {
            load.push(start(scope, shared, "crasher".to_owned(), move || crasher::run(shared, crash)));
        }
        load.push(start(scope, shared, "deployer".to_owned(), move || {
            Deployer::open(shared, options.short_gates)?.run()
        }));
        load.push(start(scope, shared, "probe".to_owned(), || probe::run(shared)));
        load.push(start(scope, shared, "probe's watcher".to_owned(), || probe::watch(shared)));
        load.push(start(scope, shared, "chaos".to_owned(), || chaos::disturb(shared)));
        let finisher = start(scope, shared, "finisher".to_owned(), || finisher::run(shared, &read_joined));
        let mut watchers = Vec::new();
        for number in 1..=READERS {
            watchers.push(start(scope, shared, format!("reader {number}"), move || {
                Reader::open(shared, number, Looks::all(), Some(APP))?.run()
            }));
        }
        let pollers =
            [Source::All, Source::All, Source::Filtered].into_iter().zip(1..).map(|(source, number)| {
                start(scope, shared, format!("poller {number}"), move || {
                    Poller::open(shared, number, source)?.run()
                })
            });
        let pollers: Vec<_> = pollers.collect();

        wait(shared, options);
        shared.end_load();
        let mut faults: Vec<_> = load.into_iter().filter_map(|thread| join(thread).err()).collect();
        is_load_joined.store(true, Ordering::Release);
        faults.extend(join(finisher).err());
        if faults.is_empty() {
            faults.extend(controller::settle(shared).context("the jobs do not end").err());
        }
        shared.end();
        faults.extend(watchers.into_iter().filter_map(|thread| join(thread).err()));
        let mut followed = Vec::new();
        for poller in pollers {
            match join(poller) {
                Ok(positions) => followed.push(positions),
                Err(error) => faults.push(error),
            }
        }
        merge(faults)?;
        Ok(followed)
    })
}

/// All that failed, the first first.
fn merge(faults: Vec<anyhow::Error>) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    let texts: Vec<_> = faults.iter().map(|fault| format!("{fault:#}")).collect();
    Err(anyhow!(texts.join("\n\n")))
}

/// Whoever fails stops the others.
fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    shared: &'scope Shared,
    name: String,
    work: impl FnOnce() -> Result<T> + Send + 'scope,
) -> ScopedJoinHandle<'scope, Result<T>> {
    scope.spawn(move || {
        let result = work().with_context(|| format!("{name} failed"));
        if result.is_err() {
            shared.fail();
        }
        result
    })
}

fn join<T>(thread: ScopedJoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

fn wait(shared: &Shared, options: Options) {
    let (started, all) = (Instant::now(), Duration::from_secs(options.seconds));
    let mut next = Duration::from_secs(5);
    while started.elapsed() < all && !shared.has_failed() {
        thread::sleep(PULSE.min(all.saturating_sub(started.elapsed())));
        if options.show && started.elapsed() >= next {
            next += Duration::from_secs(5);
            let numbers = shared.stats.numbers();
            println!(
                "{:>4} s  {} events, {} rebuilds, {} jobs waited for, {} snapshots compared",
                started.elapsed().as_secs(),
                numbers.events,
                numbers.rebuilds.done,
                numbers.deeds_like("CALL returned"),
                numbers.looks
            );
        }
    }
}
