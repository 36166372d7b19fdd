//! How much private memory a process of the server takes while it works, or one that works for it.

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
    /// What the titles of processes that work for it have in them, where there are any.
    workers: Option<&'static str>,
}

impl Backend {
    pub fn open(database: &Database, workers: Option<&'static str>) -> Result<Self> {
        let mut client = database.connect()?;
        let pid: i32 = client.query_one("SELECT pg_catalog.pg_backend_pid()", &[])?.get(0);
        Ok(Self { client, pid: u32::try_from(pid)?, workers })
    }

    /// Does `work`, and watches it.
    pub fn watched<T>(&mut self, work: impl FnOnce(&mut Client) -> Result<T>) -> Result<(T, Rebuilt)> {
        let (pid, workers, is_done) = (self.pid, self.workers, AtomicBool::new(false));
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let memory =
                    || private_memory(pid).max(workers.and_then(|title| largest_sibling(pid, title)));
                let mut largest = memory();
                while !is_done.load(Ordering::Relaxed) {
                    thread::sleep(PULSE);
                    largest = largest.max(memory());
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

/// Of the server's processes with such a title.
fn largest_sibling(pid: u32, title: &str) -> Option<u64> {
    let server = status(pid, "PPid:")?;
    let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).ok()?;
    let is_wanted = |child: &u32| {
        fs::read_to_string(format!("/proc/{child}/cmdline")).is_ok_and(|whole| whole.contains(title))
    };
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    children.filter(is_wanted).filter_map(private_memory).max()
}

/// What is the process's own: shared buffers do not count. None where there is no Linux to ask.
fn private_memory(pid: u32) -> Option<u64> {
    let kilobytes: u64 = status(pid, "RssAnon:")?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn status(pid: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned())
}
