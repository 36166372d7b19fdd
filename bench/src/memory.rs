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
                let mut largest = largest_memory(pid);
                while !is_done.load(Ordering::Relaxed) {
                    thread::sleep(PULSE);
                    largest = largest.max(largest_memory(pid));
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

/// Of the process, its parallel workers, and the workers of rebuild jobs.
fn largest_memory(pid: u32) -> Option<u64> {
    let parallel = format!("parallel worker for PID {pid}");
    let works_for_it = |&other: &u32| {
        let title = fs::read_to_string(format!("/proc/{other}/cmdline")).unwrap_or_default();
        title.contains(&parallel) || title.contains("refold rebuild job")
    };
    siblings(pid).into_iter().filter(works_for_it).chain([pid]).filter_map(private_memory).max()
}

/// The processes with the same parent: the server's.
fn siblings(pid: u32) -> Vec<u32> {
    let Some(server) = status(pid, "PPid:") else { return vec![] };
    let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
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
