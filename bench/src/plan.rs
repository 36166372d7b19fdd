//! Which cases a run has, how large, how often.

use anyhow::Result;
use clap::ValueEnum;
use std::time::Duration;

use crate::case::{Append, Case, During, Kind, Log, Models, Read, Rebuild, Stall, Streams};
use crate::load::Window;
use crate::measure::{Bench, Effort};
use crate::results::Cell;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Plan {
    /// Everything, at every size: hours
    Full,
    /// The ratios that refold is held to: under ten minutes
    Quick,
    /// Appends during rebuilds, of models of 1k, 50k and 1M rows
    Stall,
    /// Everything, tiny: whether all of it works
    Smoke,
}

impl Plan {
    pub fn effort(self) -> Effort {
        let millis = Duration::from_millis;
        // The speed of a guest's processors changes from second to second: in many short rounds all meet the same.
        let window = Window { warm_up: millis(20), time: millis(100) };
        match self {
            Self::Full => Effort { rounds: 61, window, rebuilds: 3, quiet: millis(2_000) },
            Self::Quick => Effort { rounds: 61, window, rebuilds: 5, quiet: millis(1_000) },
            Self::Stall => Effort { rounds: 61, window, rebuilds: 5, quiet: millis(5_000) },
            Self::Smoke => Effort {
                rounds: 2,
                window: Window { warm_up: millis(20), time: millis(80) },
                rebuilds: 2,
                quiet: millis(80),
            },
        }
    }

    /// Runs those of its cases whose names `only` is a part of, and gives each cell to `tell` as it is measured.
    pub fn run(self, bench: &Bench, only: &str, tell: &mut dyn FnMut(Cell) -> Result<()>) -> Result<()> {
        let is_wanted = |case: Case| case.to_string().contains(only);
        let appends = self.appends().into_iter().map(|work| (Case::Append(work), work));
        let beside = self.beside().into_iter().map(|work| (Case::Beside(work), work));
        for (case, work) in appends.chain(beside).filter(|(case, _)| is_wanted(*case)) {
            tell(bench.append(case, &work)?)?;
        }
        for (length, streams) in self.reads() {
            if is_wanted(Case::Read(Read { length })) {
                tell(bench.read(&Read { length }, streams)?)?;
            }
        }
        for (log, kind) in self.rebuilds() {
            if is_wanted(Case::Rebuild(Rebuild { log, kind })) {
                bench.rebuild(&log, kind)?.into_iter().try_for_each(&mut *tell)?;
            }
        }
        for (events, rows) in self.stalls() {
            if is_wanted(Case::Stall(Stall { events, rows, during: During::Atomic })) {
                bench.stall(events, rows)?.into_iter().try_for_each(&mut *tell)?;
            }
        }
        Ok(())
    }

    fn appends(self) -> Vec<Append> {
        if self == Self::Stall {
            return vec![];
        }
        let one =
            Append { clients: 1, events: 1, streams: Streams::New, models: None, synchronous_commit: false };
        let clients: &[usize] = if self == Self::Smoke { &[1, 2] } else { &[1, 2, 4, 8] };
        let mut works: Vec<_> = clients.iter().map(|&clients| Append { clients, ..one }).collect();
        works.push(Append { events: 100, ..one });
        works.extend(KINDS.map(|kind| with(kind, 1, 1)));
        if self == Self::Quick {
            return works;
        }
        works.push(Append { events: 10, ..one });
        let (kinds, clients) = match self {
            // Enough to see whether all of it works.
            Self::Smoke => (&KINDS[..1], &clients[1..]),
            _ => (&KINDS[..], clients),
        };
        works.extend(clients.iter().map(|&clients| Append { clients, streams: Streams::Hot, ..one }));
        works.extend(kinds.iter().flat_map(|&kind| [with(kind, 5, 5), with(kind, 5, 1)]));
        let durable: Vec<_> = works.iter().map(|work| Append { synchronous_commit: true, ..*work }).collect();
        // Beyond these the wait for the disk is all that would be seen.
        works.extend(durable.into_iter().take(if self == Self::Smoke { 1 } else { 4 + 1 + KINDS.len() }));
        works
    }

    fn beside(self) -> Vec<Append> {
        match self {
            Self::Full | Self::Quick => vec![with(Kind::Fold, 1, 1), with(Kind::PerEvent, 1, 1)],
            Self::Smoke => vec![with(Kind::Fold, 1, 1)],
            Self::Stall => vec![],
        }
    }

    /// The length of streams, and how many there are.
    fn reads(self) -> Vec<(usize, usize)> {
        match self {
            Self::Full => vec![(20, 5_000), (1_000, 200)],
            Self::Smoke => vec![(20, 20), (1_000, 2)],
            Self::Quick | Self::Stall => vec![],
        }
    }

    fn rebuilds(self) -> Vec<(Log, Kind)> {
        let log = |events, one_in| Log { events, streams: events / 20, one_in };
        let every_kind =
            |logs: &[Log]| -> Vec<_> { logs.iter().flat_map(|log| KINDS.map(|kind| (*log, kind))).collect() };
        match self {
            Self::Full => {
                let sizes = |sizes: &[u64]| -> Vec<_> {
                    sizes.iter().flat_map(|&size| [log(size, 1), log(size, 100)]).collect()
                };
                let mut works = every_kind(
                    &[vec![log(LARGEST_PEER, 1)], sizes(&[SMALL_REBUILD, LARGE_REBUILD])].concat(),
                );
                // A handler that is called for each event would take an hour more, in every system.
                works.extend(
                    every_kind(&sizes(&[HUGE_REBUILD]))
                        .into_iter()
                        .filter(|(_, kind)| *kind != Kind::PerEvent),
                );
                works
            }
            Self::Quick => {
                // The memory of a rebuild is compared with that of one of a smaller log.
                let logs = [SMALL_REBUILD, LARGE_REBUILD].map(|n| log(n, 1));
                logs.iter().flat_map(|log| [Kind::Fold, Kind::PerBatch].map(|kind| (*log, kind))).collect()
            }
            Self::Smoke => [every_kind(&[log(2_000, 1)]), vec![(log(2_000, 100), Kind::Fold)]].concat(),
            Self::Stall => vec![],
        }
    }

    /// Events and rows.
    fn stalls(self) -> Vec<(u64, u64)> {
        match self {
            Self::Full | Self::Stall => vec![(1_000_000, 1_000), (1_000_000, 50_000), (1_000_000, 1_000_000)],
            Self::Quick => vec![(1_000_000, 50_000)],
            Self::Smoke => vec![(2_000, 100)],
        }
    }
}

/// One client, with so many models.
fn with(kind: Kind, count: usize, taking: usize) -> Append {
    let models = Some(Models { kind, count, taking });
    Append { clients: 1, events: 1, streams: Streams::Own, models, synchronous_commit: false }
}

pub const SMALL_REBUILD: u64 = 100_000;
pub const LARGE_REBUILD: u64 = 1_000_000;
const HUGE_REBUILD: u64 = 10_000_000;
/// The peers' own rebuilds handle some hundred events a second.
const LARGEST_PEER: u64 = 10_000;
const KINDS: [Kind; 3] = [Kind::Fold, Kind::PerEvent, Kind::PerBatch];
