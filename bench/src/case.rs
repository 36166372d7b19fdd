//! What is measured, as data: each workload with its parameters. Nothing here knows a system or a server.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A workload with all its parameters; results are found by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "workload", rename_all = "snake_case")]
pub enum Case {
    Append(Append),
    /// The same, by one system with other things to do beside.
    Beside(Append),
    Read(Read),
    Rebuild(Rebuild),
    /// The largest private memory that the process of a rebuild had.
    RebuildMemory(Rebuild),
    Stall(Stall),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    pub clients: usize,
    /// How many events a call appends.
    pub events: usize,
    pub streams: Streams,
    pub models: Option<Models>,
    /// Whether a commit waits for the disk.
    pub synchronous_commit: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Streams {
    /// Each call begins a stream.
    New,
    /// Each client goes round streams of its own.
    Own,
    /// All clients append to one.
    Hot,
}

/// The read models that are kept inline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Models {
    pub kind: Kind,
    pub count: usize,
    /// How many of them take the type of the events.
    pub taking: usize,
}

/// refold's three kinds of handlers. By hand a kind says what the bare statement does as well as the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Fold,
    PerEvent,
    PerBatch,
}

/// Reading whole streams, by one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    pub length: usize,
}

/// A log, and the rebuild of one model from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    pub log: Log,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    pub events: u64,
    pub streams: u64,
    /// The model takes one event in so many.
    pub one_in: u64,
}

/// The latency of appends to a model of so many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    pub events: u64,
    pub rows: u64,
    pub during: During,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum During {
    Quiet,
    Atomic,
    Concurrent,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append(work) => work.fmt(f),
            Self::Beside(work) => write!(f, "other work beside {work}"),
            Self::Read(Read { length }) => write!(f, "read a stream of {length}"),
            Self::Rebuild(work) => work.fmt(f),
            Self::RebuildMemory(work) => write!(f, "memory: {work}"),
            Self::Stall(Stall { events, rows, during }) => {
                let during = match during {
                    During::Quiet => "without a rebuild",
                    During::Atomic => "during an atomic rebuild",
                    During::Concurrent => "during a concurrent rebuild",
                };
                write!(f, "append {during}: {} events, {} rows", short(*events), short(*rows))
            }
        }
    }
}

impl fmt::Display for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "append {}", self.events)?;
        match self.streams {
            Streams::New => f.write_str(", new streams")?,
            Streams::Own => f.write_str(", own streams")?,
            Streams::Hot => f.write_str(", one hot stream")?,
        }
        if let Some(Models { kind, count, taking }) = self.models {
            write!(f, ", {count} {kind}")?;
            if taking < count {
                write!(f, ", {taking} takes it")?;
            }
        }
        write!(f, ", {} client{}", self.clients, if self.clients == 1 { "" } else { "s" })?;
        f.write_str(if self.synchronous_commit { ", synchronous" } else { "" })
    }
}

impl fmt::Display for Rebuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rebuild {}, {} events", self.kind, short(self.log.events))?;
        if self.log.one_in > 1 {
            write!(f, ", 1 in {} taken", self.log.one_in)?;
        }
        Ok(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fold => "fold",
            Self::PerEvent => "per event",
            Self::PerBatch => "per batch",
        })
    }
}

/// 50000 is `50k`.
pub fn short(number: u64) -> String {
    match number {
        n if n >= 1_000_000 && n.is_multiple_of(1_000_000) => format!("{}M", n / 1_000_000),
        n if n >= 1_000 && n.is_multiple_of(1_000) => format!("{}k", n / 1_000),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Append, Case, Kind, Models, Streams, short};

    #[test]
    fn names_a_case_in_one_line() {
        let models = Some(Models { kind: Kind::PerEvent, count: 5, taking: 1 });
        let case = Case::Append(Append {
            clients: 1,
            events: 10,
            streams: Streams::Own,
            models,
            synchronous_commit: true,
        });
        assert_eq!(
            case.to_string(),
            "append 10, own streams, 5 per event, 1 takes it, 1 client, synchronous"
        );
        assert_eq!([short(999), short(50_000), short(10_000_000)], ["999", "50k", "10M"]);
    }
}
