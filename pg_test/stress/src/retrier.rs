//! Appends that are tried again, with the same event_id, until they are acknowledged: because the client has hung up
//! before it had its answer, or because two clients append the same at the same time. Each must be in the log once, and
//! all that is told of it must be the same.

use anyhow::{Context, Result, bail, ensure};
use rand::RngExt;
use rand::rngs::StdRng;
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

use crate::ledger::{Entry, Outcome, Written};
use crate::lines::{Lines, NAME, Told, Wish};
use crate::plan::{Append, Isolation, Planner, generator};
use crate::session::{APP, Role, Session};
use crate::shared::Shared;

/// How long a server process may go on after its client has hung up.
const HUNG_UP: Duration = Duration::from_secs(60);

pub struct Retrier<'a> {
    shared: &'a Shared,
    runtime: Runtime,
    planner: Planner,
    rng: StdRng,
    number: u64,
    lines: Lines<'a>,
    /// Reads the log.
    session: Session<'a>,
}

impl<'a> Retrier<'a> {
    pub fn open(shared: &'a Shared, number: u64) -> Result<Self> {
        Ok(Self {
            shared,
            runtime: Builder::new_current_thread().enable_all().build()?,
            planner: Planner::new(shared.seed, 6000 + number),
            rng: generator(shared.seed, 7000 + number),
            number,
            lines: Lines::new(shared),
            session: Session::open(shared, Role::Protected, Some(APP))?,
        })
    }

    pub fn run(mut self) -> Result<()> {
        let mut count = 0;
        while !self.shared.is_load_over() {
            thread::sleep(Duration::from_millis(self.rng.random_range(0..=40)));
            count += 1;
            let wishes = self.draw(&format!("retried-{}-{count}", self.number));
            let told = self.runtime.block_on(self.lines.fulfil(&wishes));
            let told = told.with_context(|| wishes[0].tag.clone())?;
            self.settle(&wishes, &told).with_context(|| {
                let Wish { append, tag, .. } = &wishes[0];
                format!("{tag}, {append:?}, {} clients, told {told:?}", wishes.len())
            })?;
        }
        self.runtime.block_on(self.lines.close());
        self.wait_for_hung_up()
    }

    /// One client that hangs up, or two that race: for the same event in one stream, or rarely in two.
    fn draw(&mut self, tag: &str) -> Vec<Wish> {
        let append = self.planner.next_retried();
        let kind = self.rng.random_range(0..100);
        let clients = if kind < 30 { 1 } else { 2 };
        let mut wishes: Vec<_> = (0..clients)
            .map(|client| Wish {
                append: append.clone(),
                tag: tag.to_owned(),
                client,
                isolation: Isolation::draw(&mut self.rng, 60, 25, 15),
                patience: (clients == 1 || self.rng.random_bool(0.1)).then(|| self.patience()),
                may_be_taken: false,
            })
            .collect();
        if kind >= 90
            && let [first, second] = &mut wishes[..]
        {
            second.append.stream.push_str("-other");
            second.tag.push_str("-other");
            (first.may_be_taken, second.may_be_taken) = (true, true);
        }
        wishes
    }

    /// Mostly about as long as an append takes.
    fn patience(&mut self) -> Duration {
        let draw: f64 = self.rng.random();
        Duration::from_secs_f64(draw.powi(2) * 0.04)
    }

    /// Compares what all were told with the log, and leaves it to the ledger.
    fn settle(&mut self, wishes: &[Wish], told: &[Told]) -> Result<()> {
        let logged = self.logged(&wishes[0].append)?;
        let winner = told.iter().position(|told| *told != Told::Taken);
        let winner = winner.context("each was told that the other has the event_id")?;
        let Wish { append, .. } = &wishes[winner];
        ensure!(logged.len() == append.drafts.len(), "the log has {logged:?}");
        let Some((stream, version, position, tried)) = logged.last() else { bail!("the log has nothing") };
        ensure!(*stream == append.stream, "the log has {logged:?}");
        for (wish, told) in wishes.iter().zip(told) {
            let other = wish.append.stream != append.stream;
            match told {
                Told::Taken => ensure!(other, "a repeated append was refused, the log has {logged:?}"),
                Told::Appended { .. } if other => bail!("both streams got the event_id"),
                Told::Appended { version: v, position: p, .. } => {
                    ensure!((v, p) == (version, position), "the log has {logged:?}");
                }
            }
        }
        let found = !told.iter().any(|told| matches!(told, Told::Appended { by, .. } if by == tried));
        self.shared.stats.retried(|retried| {
            retried.found += u64::from(found);
            retried.raced += u64::from(wishes.len() > 1);
            retried.taken += u64::from(told.contains(&Told::Taken));
        });
        self.record(wishes, told);
        Ok(())
    }

    fn record(&self, wishes: &[Wish], told: &[Told]) {
        let mut entries: Vec<Entry> = Vec::new();
        for (Wish { append, tag, .. }, told) in wishes.iter().zip(told) {
            let (outcome, events, position) = match told {
                Told::Taken => (Outcome::RolledBack, Vec::new(), None),
                Told::Appended { version, position, .. } => {
                    let count = i64::try_from(append.drafts.len()).unwrap_or(i64::MAX);
                    let written = |version| Written { stream: append.stream.clone(), version };
                    let events = (version - count + 1..=*version).map(written).collect();
                    (Outcome::Committed, events, Some((written(*version), *position)))
                }
            };
            match entries.iter_mut().find(|entry| entry.tag == *tag) {
                // Told twice: what differs would be too much for the log.
                Some(entry) => {
                    entry.events.extend(events);
                    entry.positions.extend(position);
                }
                None => {
                    self.shared.stats.committed(events.len());
                    let positions = position.into_iter().collect();
                    entries.push(Entry { tag: tag.clone(), outcome, events, positions, untold: 0 });
                }
            }
        }
        entries.into_iter().for_each(|entry| self.shared.record(entry));
    }

    /// The events that have the ids of `append`: stream, version, position, and the try that has written it.
    fn logged(&mut self, append: &Append) -> Result<Vec<(String, i64, i64, String)>> {
        let ids: Vec<_> = (0..append.drafts.len()).filter_map(|index| append.event_id_of(index)).collect();
        let sql =
            "SELECT stream_id, stream_version, position, coalesce(metadata->>'try', '?') FROM refold.event
                   WHERE event_id = ANY ($1::text[]::uuid[]) ORDER BY position";
        let rows = self.session.insist(|client| client.query(sql, &[&ids]))?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)))
            .collect()
    }

    /// Whoever was left alone by its client may still be about to find out.
    fn wait_for_hung_up(&mut self) -> Result<()> {
        let started = Instant::now();
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1";
        loop {
            let left: i64 = self.session.insist(|client| client.query_one(sql, &[&NAME]))?.try_get(0)?;
            if left == 0 || self.shared.has_failed() {
                return Ok(());
            }
            ensure!(
                started.elapsed() < HUNG_UP,
                "{left} processes go on for {HUNG_UP:?} after their clients"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}
