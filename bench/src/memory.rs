//! How much private memory a process of the server takes while it works.

use anyhow::Result;
use postgres::Client;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::system::Rebuilt;

const PULSE: Duration = Duration::from_millis(5);

/// A connection, and the process of the server that serves it.
pub struct Backend {
    client: Client,
    pid: u32,
}

impl Backend {
    pub fn open(database: &Database) -> Result<Self> {
        let mut client = database.connect()?;
        let pid: i32 = client.query_one("SELECT pg_catalog.pg_backend_pid()", &[])?.get(0);
        Ok(Self { client, pid: u32::try_from(pid)? })
    }

    /// Does `work`, and watches it.
    pub fn watched<T>(&mut self, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<(T, Rebuilt)> {
        let (pid, is_done) = (self.pid, AtomicBool::new(false));
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut largest = private_memory(pid);
                while !is_done.load(Ordering::Relaxed) {
                    thread::sleep(PULSE);
                    largest = largest.max(private_memory(pid));
                }
                largest
            });
            let started = Instant::now();
            let result = work(&mut self.client);
            let time = started.elapsed();
            is_done.store(true, Ordering::Relaxed);
            let memory = watcher.join().ok().flatten();
            Ok((result?, Rebuilt { time, memory }))
        })
    }
}

/// What is the process's own: shared buffers do not count. None where there is no Linux to ask.
fn private_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
