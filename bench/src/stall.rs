//! How long appends take while a model is rebuilt. The clients append at a fixed rate, and an append's latency counts
//! from when it was due: those that queue behind a stall are seen as well as the one that meets it.

use anyhow::{Context, Result, anyhow, ensure};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::case::{Append, Case, During, Kind, Log, Models, Rebuild, Stall, Streams};
use crate::database::Database;
use crate::events::Source;
use crate::load::{histogram, record};
use crate::measure::Bench;
use crate::models;
use crate::results::{Cell, Latency, Series, Unit};
use crate::system::{Appender, System};

const CLIENTS: usize = 4;
/// Between two appends of one client.
const PACE: Duration = Duration::from_millis(10);
/// Before the rebuild starts, and after its end.
const MARGIN: Duration = Duration::from_millis(100);

impl Bench<'_> {
    /// A cell for each of `During`, of models with so many rows.
    pub fn stall(&self, events: u64, rows: u64) -> Result<Vec<Cell>> {
        let works =
            [During::Quiet, During::Atomic, During::Concurrent].map(|during| Stall { events, rows, during });
        let mut cells: Vec<_> =
            works.iter().map(|work| Cell::new(Case::Stall(*work), Unit::Milliseconds)).collect();
        for system in self.systems.iter().filter(|system| system.can(&Case::Stall(works[0]))) {
            let name = system.name();
            let series = self
                .stall_of(system.as_ref(), &works)
                .with_context(|| format!("{name}: {}", Case::Stall(works[0])))?;
            for (cell, series) in cells.iter_mut().zip(series) {
                cell.series.extend(series);
            }
        }
        Ok(cells)
    }

    fn stall_of(&self, system: &dyn System, works: &[Stall]) -> Result<Vec<Option<Series>>> {
        let database = self.server.create("bench_stall", false)?;
        system.install(&database)?;
        let Stall { events, rows, .. } = works[0];
        let log = Log { events, streams: rows, one_in: 1 };
        system.fill(&database, &log)?;
        let rebuild = Rebuild { log, kind: Kind::Fold };
        drop(system.rebuilder(&database, &rebuild)?);

        let mut measured = Vec::new();
        for work in works {
            let statements = system.rebuild_statements(&database, work)?;
            let is_there = statements.is_some() || work.during == During::Quiet;
            measured.push(if is_there {
                Some(Measured { statements, series: Series::new(system.name()), latency: histogram()? })
            } else {
                None
            });
        }
        let mut clients = Client::all(system, &database)?;
        // Their first appends find everything cold.
        let mut appended = run(&mut clients, || Ok(()))?.len();
        for _ in 0..self.effort.rebuilds {
            for measured in measured.iter_mut().flatten() {
                let run = run(&mut clients, || match &measured.statements {
                    Some(statements) => {
                        let mut client = database.connect()?;
                        statements.iter().try_for_each(|statement| client.batch_execute(statement))?;
                        Ok(())
                    }
                    None => {
                        thread::sleep(self.effort.quiet);
                        Ok(())
                    }
                })?;
                measured.series.samples.push(run.max() as f64 / 1_000.0);
                appended += run.len();
                measured.latency.add(run)?;
            }
        }
        let logged = database.number(&format!("SELECT count(*) FROM ({}) AS l", system.log()))?;
        ensure!(
            u64::try_from(logged)? == events + appended,
            "{appended} events were appended to {events}, {logged} are there"
        );
        models::check(&database, &system.model(Kind::Fold, 1), system.log(), 1)?;
        drop(clients);
        database.drop()?;
        let told =
            |measured: Measured| Series { latency: Some(Latency::of(&measured.latency)), ..measured.series };
        Ok(measured.into_iter().map(|one| one.map(told)).collect())
    }
}

/// One of `During`.
struct Measured {
    statements: Option<[String; 2]>,
    series: Series,
    latency: Histogram<u64>,
}

struct Client {
    source: Source,
    appender: Appender,
}

impl Client {
    fn all(system: &dyn System, database: &Database) -> Result<Vec<Self>> {
        let models = Some(Models { kind: Kind::Fold, count: 1, taking: 1 });
        let work =
            Append { clients: CLIENTS, events: 1, streams: Streams::Own, models, synchronous_commit: false };
        let client = |source| Ok(Self { source, appender: system.appender(database, &work)? });
        Source::all(&work).into_iter().map(client).collect()
    }

    fn append_on_time(&mut self, is_over: &AtomicBool) -> Result<Histogram<u64>> {
        let mut latency = histogram()?;
        let mut due = Instant::now();
        while !is_over.load(Ordering::Relaxed) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            (self.appender)(&self.source.next())?;
            record(&mut latency, due.elapsed());
            due += PACE;
        }
        Ok(latency)
    }
}

/// Appends during `work`; the latencies.
fn run(clients: &mut [Client], work: impl FnOnce() -> Result<()>) -> Result<Histogram<u64>> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let is_over = &is_over;
        let threads: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(move || client.append_on_time(is_over))).collect();
        thread::sleep(MARGIN);
        let result = work();
        thread::sleep(MARGIN);
        is_over.store(true, Ordering::Relaxed);
        let mut all = histogram()?;
        for thread in threads {
            all.add(thread.join().map_err(|_| anyhow!("a client panicked"))??)?;
        }
        result.map(|()| all)
    })
}
