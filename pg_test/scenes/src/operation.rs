//! What the two sessions of a meeting do, at which level, and when.

use crate::world::{self, Kind, VERIFY};

/// What a session does in its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Append,
    Batch,
    Rebuild,
    Create,
    Drop,
    Verify,
    Read,
}

/// The names of the sessions' streams.
pub const STREAMS: [&str; 2] = ["a", "b"];
const READ: &str = "SELECT position FROM refold.read_all()";

impl Operation {
    pub const ALL: [Self; 7] =
        [Self::Append, Self::Batch, Self::Rebuild, Self::Create, Self::Drop, Self::Verify, Self::Read];

    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Batch => "append batch",
            Self::Rebuild => "rebuild",
            Self::Create => "create",
            Self::Drop => "drop",
            Self::Verify => "verify",
            Self::Read => "read",
        }
    }

    /// Changes nothing, so that how and when its transaction ends matters to the locks at most.
    pub fn only_reads(self) -> bool {
        matches!(self, Self::Verify | Self::Read)
    }

    pub fn needs_read_committed(self) -> bool {
        matches!(self, Self::Rebuild | Self::Create | Self::Drop)
    }

    /// How it may fail at a level that it accepts; 40001 at READ COMMITTED is never allowed.
    pub fn may_fail_with(self) -> &'static [&'static str] {
        match self {
            Self::Append | Self::Batch => &["40001"],
            Self::Rebuild | Self::Drop => &["42704", "55006"],
            Self::Create => &["42710"],
            Self::Verify => &["40001", "42704", "55006"],
            Self::Read => &[],
        }
    }

    /// Done by the session of this stream. Appends feed the same keys from two streams, batches in opposite order.
    pub fn statement(self, kind: Kind, stream: &str) -> String {
        let [one, two] = items(stream);
        let keys = if stream == STREAMS[0] { ["pen", "ink"] } else { ["ink", "pen"] };
        match self {
            Self::Append => world::append(stream, &one, "pen"),
            Self::Batch => world::append_batch(stream, &[(&one, keys[0]), (&two, keys[1])]),
            Self::Rebuild => {
                format!("SELECT FROM refold.rebuild_projection('model', '{}')", kind.new_handler())
            }
            Self::Create => kind.create(),
            Self::Drop => "SELECT refold.drop_projection('model')".to_owned(),
            Self::Verify => VERIFY.to_owned(),
            Self::Read => READ.to_owned(),
        }
    }

    /// The items that it has added to the log once it is committed.
    pub fn adds(self, stream: &str) -> Vec<String> {
        match self {
            Self::Append => items(stream)[..1].to_vec(),
            Self::Batch => items(stream).to_vec(),
            _ => Vec::new(),
        }
    }
}

fn items(stream: &str) -> [String; 2] {
    [format!("{stream}1"), format!("{stream}2")]
}

/// Of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Level {
    pub const ALL: [Self; 3] = [Self::ReadCommitted, Self::RepeatableRead, Self::Serializable];

    pub fn short(self) -> &'static str {
        match self {
            Self::ReadCommitted => "RC",
            Self::RepeatableRead => "RR",
            Self::Serializable => "SER",
        }
    }

    pub fn begin(self) -> &'static str {
        match self {
            Self::ReadCommitted => "BEGIN ISOLATION LEVEL READ COMMITTED",
            Self::RepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Self::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        }
    }
}

/// When the second session does what, beside the first one, which acts and then ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// The first acts and commits; the second begins and acts.
    After,
    /// The second begins and reads; the first acts and commits; the second acts.
    Older,
    /// The first acts; the second begins and acts; the first commits, then the second.
    Meanwhile,
    /// The same, but the first rolls back.
    Undone,
    /// The same, but the second commits before the first.
    Overtakes,
}

impl Schedule {
    pub const ALL: [Self; 5] = [Self::After, Self::Older, Self::Meanwhile, Self::Undone, Self::Overtakes];

    pub fn name(self) -> &'static str {
        match self {
            Self::After => "after",
            Self::Older => "older",
            Self::Meanwhile => "meanwhile",
            Self::Undone => "undone",
            Self::Overtakes => "overtakes",
        }
    }

    /// Whether it shows more of these two operations than the other schedules do: how a transaction that only read
    /// ends changes nothing, and what has read cannot be seen.
    pub fn tells(self, [first, second]: [Operation; 2]) -> bool {
        match self {
            Self::Meanwhile => true,
            Self::Overtakes => !first.only_reads() && !second.only_reads(),
            _ => !first.only_reads(),
        }
    }
}
