//! What a session's memory holds, its caches of the catalogs left out.

use anyhow::{Result, anyhow, ensure};
use postgres::Client;
use std::{fmt, fs, thread};

use super::{FOR_LOCK, until_true};
use crate::session::explain;

/// What may be left whatever the number of failures: hash tables and arrays grow by doubling.
const CONTEXTS: i64 = 8;
const BYTES: i64 = 48 * 1024;
const HEAP_KB: i64 = 1536;

#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pub contexts: i64,
    /// Used in all of PostgreSQL's memory contexts.
    pub bytes: i64,
    /// The process's own memory, that of Rust included; 0 where it cannot be told.
    pub heap_kb: i64,
}

/// The difference of two.
#[derive(Debug, Clone, Copy)]
pub struct Grown(Memory);

impl Memory {
    pub fn of(client: &mut Client, pid: i32) -> Result<Self> {
        let row = client.query_one("SELECT * FROM memory()", &[]).map_err(explain)?;
        Ok(Self { contexts: row.try_get(0)?, bytes: row.try_get(1)?, heap_kb: heap_kb(pid) })
    }

    pub fn since(self, before: Self) -> Grown {
        Grown(Self {
            contexts: self.contexts - before.contexts,
            bytes: self.bytes - before.bytes,
            heap_kb: self.heap_kb - before.heap_kb,
        })
    }
}

impl Grown {
    pub fn more_than(self, control: Self) -> Self {
        self.0.since(control.0)
    }

    pub fn require_none(self) -> Result<()> {
        let Memory { contexts, bytes, heap_kb } = self.0;
        ensure!(
            contexts <= CONTEXTS && bytes <= BYTES && heap_kb <= HEAP_KB,
            "the session's memory has grown: {self}"
        );
        Ok(())
    }
}

impl fmt::Display for Grown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Memory { contexts, bytes, heap_kb } = self.0;
        write!(f, "{bytes} bytes, {contexts} contexts, {heap_kb} kB of heap")
    }
}

/// What was kept of so many repetitions.
pub struct Kept {
    pub way: String,
    pub times: u32,
    pub grown: Grown,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { way, times, grown } = self;
        write!(f, "{way}: {times} times, {grown} kept")
    }
}

pub fn heap_kb(pid: i32) -> i64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

/// Empties the session's caches of the catalogs. PostgreSQL caches that something does not exist too, and nothing ever
/// ends such an entry that names a table or schema that was rolled back: plain CREATE SCHEMA and CREATE TABLE that fail
/// leave as much as a rebuild that fails, some 1.2 kB each time. What was lost, in whatever memory, stays.
///
/// The session waits, and so takes no invalidations, while `changer` sends more than the queue of all sessions can hold
/// (4096): it must take everything for invalid.
pub fn forget_caches(client: &mut Client, pid: i32, changer: &mut Client) -> Result<()> {
    changer.batch_execute("SELECT pg_advisory_lock(1)").map_err(explain)?;
    thread::scope(|scope| {
        let wait = "BEGIN; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(1); COMMIT";
        let waiting = scope.spawn(|| client.batch_execute(wait));
        let changed = until_true(changer, FOR_LOCK, pid)
            .and_then(|()| changer.batch_execute("CALL change_catalogs()").map_err(explain));
        changer.batch_execute("SELECT pg_advisory_unlock(1)").map_err(explain)?;
        let waited = waiting.join().map_err(|_| anyhow!("a client panicked"))?;
        changed?;
        waited.map_err(explain)
    })
}
