//! A system is one small adapter: how it is installed, how one client appends and reads, how a model is rebuilt.

mod bare;
mod emmett;
mod eventsourcing;
mod message_db;
mod peer;
mod refold;

pub use refold::Refold;

use anyhow::{Result, bail};
use clap::ValueEnum;
use std::path::Path;
use std::time::Duration;

use crate::case::{Append, Case, Kind, Log, Rebuild, Stall};
use crate::database::Database;
use crate::events::{Call, Source};
use crate::load::{Done, Run, Window, Worker, drive};

/// Appends one call's events and tells how often it had to try again.
pub type Appender = Box<dyn FnMut(&Call) -> Result<u64> + Send>;
/// Reads a stream and tells how many events it has.
pub type Reader = Box<dyn FnMut(&str) -> Result<u64> + Send>;

/// Another event store, which must be installed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    Emmett,
    MessageDb,
    Eventsourcing,
}

/// refold, the bare statements, and the peers, which are installed in folders of their own below `installed`.
pub fn all(peers: &[Peer], installed: &Path) -> Vec<Box<dyn System>> {
    let mut systems: Vec<Box<dyn System>> =
        vec![Box::new(Refold::Alone), Box::new(bare::Bare::Statements), Box::new(bare::Bare::OneStatement)];
    systems.extend(Refold::VARIANTS.map(|refold| -> Box<dyn System> { Box::new(refold) }));
    systems.extend(peers.iter().map(|peer| -> Box<dyn System> {
        match peer {
            Peer::Emmett => Box::new(emmett::Emmett::new(&installed.join("emmett"))),
            Peer::MessageDb => Box::new(message_db::MessageDb::new(&installed.join("message-db"))),
            Peer::Eventsourcing => {
                Box::new(eventsourcing::Eventsourcing::new(&installed.join("eventsourcing")))
            }
        }
    }));
    systems
}

pub trait System {
    fn name(&self) -> &'static str;

    fn version(&self) -> String;

    /// Whether it has a way to do this; where it has none, its cell stays empty.
    fn can(&self, case: &Case) -> bool;

    /// Prepares an empty database.
    fn install(&self, database: &Database) -> Result<()>;

    /// All events there are: a query of (stream_id, event_type, data).
    fn log(&self) -> &'static str;

    /// A model's rows: a query of (cart_id, items, total).
    fn model(&self, _kind: Kind, number: usize) -> String {
        format!("SELECT * FROM {}", crate::models::table(number))
    }

    /// One client of ours that appends. Models are kept as `work` says from then on.
    fn appender(&self, _database: &Database, _work: &Append) -> Result<Appender> {
        bail!("{} has no function for our client to append with", self.name())
    }

    /// Makes the models of `work`, once.
    fn prepare_models(&self, _database: &Database, _work: &Append) -> Result<()> {
        Ok(())
    }

    /// All clients of a case, over all rounds.
    fn session(&self, database: &Database, work: &Append) -> Result<Box<dyn Session>> {
        self.prepare_models(database, work)?;
        self.accompany(
            database,
            work,
            Clients::appending(Source::all(work), || self.appender(database, work))?,
        )
    }

    /// Clients of ours with what goes on beside their appends.
    fn accompany(&self, _database: &Database, _work: &Append, clients: Clients) -> Result<Box<dyn Session>> {
        Ok(Box::new(clients))
    }

    fn reader(&self, _database: &Database) -> Result<Reader> {
        bail!("{} has no way to read a stream", self.name())
    }

    /// Writes a whole log at once, before any model.
    fn fill(&self, _database: &Database, _log: &Log) -> Result<()> {
        bail!("{} has no way to fill a log", self.name())
    }

    /// Makes the model of `work`, with version 1 of its handler.
    fn rebuilder(&self, _database: &Database, _work: &Rebuild) -> Result<Box<dyn Rebuilder>> {
        bail!("{} has no rebuild", self.name())
    }

    /// The statements that rebuild the model of a [`System::rebuilder`] while others append: with version 2 of its
    /// handler, which changes all rows, and back. None where there is no such rebuild.
    fn rebuild_statements(&self, _database: &Database, _work: &Stall) -> Result<Option<[String; 2]>> {
        Ok(None)
    }
}

/// The clients of one system in one case.
pub trait Session {
    fn run(&mut self, window: Window) -> Result<Run>;

    /// After the last run: whether what went on beside the clients is right.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Rebuilds one model of a log that stands still.
pub trait Rebuilder {
    /// With this version of the handler.
    fn rebuild(&mut self, version: u32) -> Result<Rebuilt>;
}

#[derive(Debug, Clone, Copy)]
pub struct Rebuilt {
    pub time: Duration,
    /// The largest private memory of one of the server's processes that do the work, in bytes, where it is done there.
    pub memory: Option<u64>,
}

/// Threads of ours.
pub struct Clients(pub Vec<Box<dyn Worker>>);

impl Clients {
    /// One for each source.
    pub fn appending(sources: Vec<Source>, appender: impl Fn() -> Result<Appender>) -> Result<Self> {
        let worker =
            |source| -> Result<Box<dyn Worker>> { Ok(Box::new(Appending { source, appender: appender()? })) };
        Ok(Self(sources.into_iter().map(worker).collect::<Result<_>>()?))
    }
}

impl Session for Clients {
    fn run(&mut self, window: Window) -> Result<Run> {
        drive(&mut self.0, window)
    }
}

struct Appending {
    source: Source,
    appender: Appender,
}

impl Worker for Appending {
    fn work(&mut self) -> Result<Done> {
        let call = self.source.next();
        let retries = (self.appender)(&call)?;
        Ok(Done { events: call.events.len() as u64, retries })
    }
}
