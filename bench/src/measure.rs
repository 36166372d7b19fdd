//! Runs the cases: each in new databases, the systems in turn round by round, so that whatever else the machine does
//! meets all of them; and at the end of each case, whether everybody has done the work.

use anyhow::{Context, Result, ensure};
use std::time::Duration;

use crate::case::{Append, Case, Kind, Log, Read, Rebuild, Streams};
use crate::database::{Database, Server};
use crate::events::Source;
use crate::load::{Done, Window, Worker, histogram};
use crate::models;
use crate::processor::Shared;
use crate::results::{Cell, Latency, Series, Unit};
use crate::system::{Clients, Reader, Session, System};

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// How often each system appends or reads, each time for one window.
    pub rounds: usize,
    pub window: Window,
    /// How often each rebuilds.
    pub rebuilds: usize,
    /// How long appends without a rebuild are watched.
    pub quiet: Duration,
}

pub struct Bench<'a> {
    pub server: &'a Server,
    pub systems: &'a [Box<dyn System>],
    pub effort: Effort,
}

/// A system in a case, with the database it has there.
struct Contender<'a, T> {
    system: &'a dyn System,
    database: Database,
    what: T,
    series: Series,
}

impl<'a> Bench<'a> {
    /// Those of the systems that can do `case`, each with a new database and what `prepare` makes in it.
    fn contenders<T>(
        &self,
        case: &Case,
        synchronous_commit: bool,
        prepare: impl Fn(&dyn System, &Database) -> Result<T>,
    ) -> Result<Vec<Contender<'a, T>>> {
        let able = self.systems.iter().enumerate().filter(|(_, system)| system.can(case));
        able.map(|(number, system)| {
            let system = system.as_ref();
            let made = || {
                let database = self.server.create(&format!("bench_{number}"), synchronous_commit)?;
                system.install(&database)?;
                let what = prepare(system, &database)?;
                anyhow::Ok(Contender { system, database, what, series: Series::new(system.name()) })
            };
            made().with_context(|| format!("{}: {case}", system.name()))
        })
        .collect()
    }

    /// `case` is of the work.
    pub fn append(&self, case: Case, work: &Append) -> Result<Cell> {
        let _shared = (work.clients == 1).then(Shared::begin).transpose()?;
        let contenders = self.contenders(&case, work.synchronous_commit, |system, database| {
            Ok((system.session(database, work)?, Tally { events: 0, latency: histogram()? }))
        })?;
        self.drive(case, contenders, |contender| {
            let logged = contender
                .database
                .number(&format!("SELECT count(*) FROM ({}) AS l", contender.system.log()))?;
            let appended = i64::try_from(contender.what.1.events)?;
            ensure!(
                appended > 0 && logged == appended,
                "{appended} events were appended, {logged} are in the log"
            );
            if let Some(wanted) = work.models {
                for number in 1..=wanted.taking {
                    let model = contender.system.model(wanted.kind, number);
                    models::check(&contender.database, &model, contender.system.log(), 1)?;
                }
            }
            contender.what.0.check()
        })
    }

    pub fn read(&self, work: &Read, streams: usize) -> Result<Cell> {
        let case = Case::Read(*work);
        let _shared = Shared::begin()?;
        let contenders = self.contenders(&case, false, |system, database| {
            fill_streams(system, database, work.length, streams)?;
            let reader = system.reader(database)?;
            let worker = Reading { reader, length: work.length, streams, next: 0 };
            let session: Box<dyn Session> = Box::new(Clients(vec![Box::new(worker)]));
            Ok((session, Tally { events: 0, latency: histogram()? }))
        })?;
        self.drive(case, contenders, |contender| {
            ensure!(contender.what.1.events > 0, "nothing was read");
            Ok(())
        })
    }

    /// All rounds, then `check`.
    fn drive(
        &self,
        case: Case,
        mut contenders: Vec<Contender<'a, (Box<dyn Session>, Tally)>>,
        check: impl Fn(&Contender<'a, (Box<dyn Session>, Tally)>) -> Result<()>,
    ) -> Result<Cell> {
        let mut cell = Cell::new(case, Unit::CallsPerSecond);
        self.take_turns(self.effort.rounds, &mut contenders, |_, contender| {
            let (session, tally) = &mut contender.what;
            let run = session.run(self.effort.window)?;
            contender.series.samples.push(run.rate);
            contender.series.retries += run.retries;
            tally.events += run.events;
            tally.latency.add(run.latency)?;
            Ok(())
        })?;
        for mut contender in contenders {
            check(&contender).with_context(|| format!("{}: {case}", contender.system.name()))?;
            contender.series.latency = Some(Latency::of(&contender.what.1.latency));
            drop(contender.what);
            contender.database.drop()?;
            cell.series.push(contender.series);
        }
        Ok(cell)
    }

    /// The time of the rebuild, and the memory that it took.
    pub fn rebuild(&self, log: &Log, kind: Kind) -> Result<[Cell; 2]> {
        let work = Rebuild { log: *log, kind };
        let case = Case::Rebuild(work);
        let mut contenders = self.contenders(&case, false, |system, database| {
            system.fill(database, log)?;
            Ok((system.rebuilder(database, &work)?, Vec::new()))
        })?;
        self.take_turns(self.effort.rebuilds, &mut contenders, |round, contender| {
            // Each rebuild changes every row.
            let version = if round % 2 == 0 { 2 } else { 1 };
            let (rebuilder, memory) = &mut contender.what;
            let rebuilt = rebuilder.rebuild(version)?;
            contender.series.samples.push(rebuilt.time.as_secs_f64());
            memory.extend(rebuilt.memory.map(|bytes| bytes as f64 / 1e6));
            let model = contender.system.model(kind, 1);
            models::check(&contender.database, &model, contender.system.log(), version)
        })?;
        let mut cells =
            [Cell::new(case, Unit::Seconds), Cell::new(Case::RebuildMemory(work), Unit::Megabytes)];
        for contender in contenders {
            let (rebuilder, memory) = contender.what;
            drop(rebuilder);
            contender.database.drop()?;
            let [times, memories] = &mut cells;
            times.series.push(contender.series);
            if !memory.is_empty() {
                memories.series.push(Series { samples: memory, ..Series::new(contender.system.name()) });
            }
        }
        Ok(cells)
    }

    /// In each round everybody once, another first each time.
    fn take_turns<T>(
        &self,
        rounds: usize,
        contenders: &mut [Contender<'a, T>],
        mut turn: impl FnMut(usize, &mut Contender<'a, T>) -> Result<()>,
    ) -> Result<()> {
        let count = contenders.len();
        for round in 0..rounds {
            for turns in 0..count {
                let contender = &mut contenders[(round + turns) % count];
                turn(round, contender)
                    .with_context(|| format!("{}, round {}", contender.system.name(), round + 1))?;
            }
        }
        Ok(())
    }
}

/// What the rounds of a contender add up to.
struct Tally {
    events: u64,
    latency: hdrhistogram::Histogram<u64>,
}

struct Reading {
    reader: Reader,
    length: usize,
    streams: usize,
    next: usize,
}

impl Worker for Reading {
    fn work(&mut self) -> Result<Done> {
        self.next = (self.next + 1) % self.streams;
        let events = (self.reader)(&stream(self.next))?;
        ensure!(events == self.length as u64, "{events} events were read of {}", self.length);
        Ok(Done { events, retries: 0 })
    }
}

fn stream(number: usize) -> String {
    format!("cart-{number}")
}

/// As many events at once as there are, up to 100.
fn fill_streams(system: &dyn System, database: &Database, length: usize, streams: usize) -> Result<()> {
    let events = length.min(100);
    ensure!(length.is_multiple_of(events), "a stream of {length} is no multiple of {events}");
    let work = Append { clients: 1, events, streams: Streams::New, models: None, synchronous_commit: false };
    let mut appender = system.appender(database, &work)?;
    let mut sources = Source::all(&work);
    let source = sources.first_mut().context("there is no client")?;
    for number in 0..streams {
        for version in (0..length).step_by(events) {
            let mut call = source.next();
            call.stream = stream(number);
            call.version = i64::try_from(version)?;
            appender(&call)?;
        }
    }
    Ok(())
}
