//! A poller follows the log from the last position it got, and must see each event exactly once, in order.

use anyhow::{Result, anyhow, bail, ensure};
use postgres::Client;
use rand::RngExt;
use rand::rngs::StdRng;
use std::thread;
use std::time::Duration;

use crate::operation::Operation;
use crate::plan::{Isolation, generator};
use crate::session::{APP, Fault, Role, Session, explain};
use crate::shared::Shared;

/// What a poller asks: after a position, at most so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    All,
    /// Only some types.
    Filtered,
    /// What must not be done: a plain query, which passes what commits late.
    Plain,
}

impl Source {
    fn sql(self) -> &'static str {
        match self {
            Self::All => "SELECT position FROM refold.read_all($1, $2)",
            Self::Filtered => "SELECT position FROM refold.read_all($1, $2, '{checked_out,item_removed}')",
            Self::Plain => "SELECT position FROM refold.event WHERE position > $1 ORDER BY position LIMIT $2",
        }
    }

    fn whole(self) -> &'static str {
        match self {
            Self::All | Self::Plain => "SELECT position FROM refold.event ORDER BY position",
            Self::Filtered => {
                "SELECT position FROM refold.event WHERE event_type IN ('checked_out', 'item_removed') ORDER BY position"
            }
        }
    }
}

/// What a poller got so far.
#[derive(Debug)]
pub struct Followed {
    source: Source,
    positions: Vec<i64>,
}

impl Followed {
    pub fn new(source: Source) -> Self {
        Self { source, positions: Vec::new() }
    }

    fn last(&self) -> i64 {
        self.positions.last().copied().unwrap_or(0)
    }

    /// Asks once; gives how many there were.
    pub fn poll(&mut self, client: &mut Client, max_count: i64) -> Result<usize, Fault> {
        let rows = client.query(self.source.sql(), &[&self.last(), &max_count])?;
        let mut last = self.last();
        let mut positions = Vec::with_capacity(rows.len());
        for row in &rows {
            let position: i64 = row.try_get(0)?;
            if position <= last {
                return Err(Fault::Broken(anyhow!(
                    "{:?}: position {position} came after {last}",
                    self.source
                )));
            }
            last = position;
            positions.push(position);
        }
        self.positions.extend(positions);
        Ok(rows.len())
    }

    /// When nothing is open any more: reads the rest, and compares all it got with the log.
    pub fn require_whole(&mut self, client: &mut Client) -> Result<usize> {
        while crate::session::certain(self.poll(client, 1000))? > 0 {}
        let rows = client.query(self.source.whole(), &[]).map_err(explain)?;
        let log = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
        if let Some((position, difference)) = first_difference(&self.positions, &log) {
            bail!("a poller of {:?} {difference}{}", self.source, around(client, position)?);
        }
        ensure!(
            self.positions.len() == log.len(),
            "a poller of {:?} has another number of events",
            self.source
        );
        Ok(log.len())
    }
}

/// The first position that only one of the two has, and what that means.
fn first_difference(got: &[i64], log: &[i64]) -> Option<(i64, String)> {
    let strange = |got: i64| Some((got, format!("got position {got}, which is not in the log")));
    for index in 0..got.len().max(log.len()) {
        match (got.get(index), log.get(index)) {
            (Some(got), Some(there)) if got == there => {}
            (Some(&got), Some(&there)) if got < there => return strange(got),
            (_, Some(&there)) => return Some((there, format!("never got position {there}"))),
            (Some(&got), None) => return strange(got),
            (None, None) => return None,
        }
    }
    None
}

/// The events around a position: whose they are, and when they were written.
fn around(client: &mut Client, position: i64) -> Result<String> {
    let sql = "SELECT concat_ws('  ', position, 'xid ' || xmin, 'horizon ' || horizon, recorded_at, stream_id || '@' ||
                   stream_version, 'tx ' || (metadata->>'tx'))
               FROM refold.event WHERE position BETWEEN $1::bigint - 40 AND $1::bigint + 40 ORDER BY position";
    let rows = client.query(sql, &[&position]).map_err(explain)?;
    let lines = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    Ok(format!(":\n  {}", lines.join("\n  ")))
}

pub struct Poller<'a> {
    session: Session<'a>,
    shared: &'a Shared,
    followed: Followed,
    rng: StdRng,
}

impl<'a> Poller<'a> {
    pub fn open(shared: &'a Shared, number: u64, source: Source) -> Result<Self> {
        let session = Session::open(shared, Role::Poller, Some(APP))?;
        let followed = Followed::new(source);
        Ok(Self { session, shared, followed, rng: generator(shared.seed, 4000 + number) })
    }

    /// Follows the log until all is over; gives what it got.
    pub fn run(mut self) -> Result<Followed> {
        while !self.shared.is_over() {
            let max_count = self.rng.random_range(1..=300);
            let isolation = Isolation::draw(&mut self.rng, 80, 15, 5);
            if let Err(fault) = self.poll(isolation, max_count) {
                self.session.overcome(Operation::Poll, fault)?;
            }
            thread::sleep(Duration::from_millis(self.rng.random_range(0..=20)));
        }
        Ok(self.followed)
    }

    fn poll(&mut self, isolation: Isolation, max_count: i64) -> Result<(), Fault> {
        if isolation == Isolation::ReadCommitted {
            self.followed.poll(&mut self.session.client, max_count)?;
        } else {
            self.session.client.batch_execute(isolation.begin())?;
            let got_before = self.followed.positions.len();
            let polled = self.followed.poll(&mut self.session.client, max_count).and_then(|_| {
                thread::sleep(Duration::from_millis(self.rng.random_range(0..=30)));
                self.followed.poll(&mut self.session.client, max_count)?;
                Ok(self.session.client.batch_execute("COMMIT")?)
            });
            if polled.is_err() {
                // A serializable transaction that failed has read nothing.
                self.followed.positions.truncate(got_before);
            }
            polled?;
        }
        self.shared.stats.polled();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn tells_the_first_difference() {
        assert_eq!(first_difference(&[1, 3, 4], &[1, 3, 4]), None);
        let position = |got, log| first_difference(got, log).map(|(position, _)| position);
        assert_eq!(position(&[1, 4], &[1, 3, 4]), Some(3));
        assert_eq!(position(&[1, 3], &[1, 3, 4]), Some(4));
        assert_eq!(position(&[1, 2, 3], &[1, 3]), Some(2));
        assert_eq!(position(&[1, 2], &[1]), Some(2));
    }
}
