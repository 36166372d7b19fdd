//! Where and of what a run was: without it no number means anything.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::thread;

use crate::database::Server;

const SETTINGS: [&str; 10] = [
    "autovacuum",
    "checkpoint_timeout",
    "fsync",
    "full_page_writes",
    "jit",
    "max_parallel_workers_per_gather",
    "max_wal_size",
    "shared_buffers",
    "wal_level",
    "work_mem",
];

#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    pub date: String,
    /// Of refold's source.
    pub commit: String,
    pub postgresql: String,
    pub processor: String,
    pub processors: usize,
    /// Over a minute, before the run: the machine should have nothing else to do.
    pub load_before: f64,
    pub settings: BTreeMap<String, String>,
    /// Which plan, and each system's version.
    pub plan: String,
    pub systems: BTreeMap<String, String>,
}

impl Machine {
    pub fn read(server: &Server, commit: &str, plan: &str) -> Result<Self> {
        let mut client = server.connect("postgres")?;
        let mut setting = |name: &str| -> Result<String> {
            Ok(client.query_one("SELECT pg_catalog.current_setting($1)", &[&name])?.get(0))
        };
        let settings =
            SETTINGS.iter().map(|&name| Ok((name.to_owned(), setting(name)?))).collect::<Result<_>>()?;
        let postgresql = setting("server_version")?;
        let date = client.query_one("SELECT to_char(now(), 'YYYY-MM-DD HH24:MI TZ')", &[])?.get(0);
        Ok(Self {
            date,
            commit: commit.to_owned(),
            postgresql,
            processor: processor().unwrap_or_else(|| "unknown".to_owned()),
            processors: thread::available_parallelism()?.get(),
            load_before: load().unwrap_or_default(),
            settings,
            plan: plan.to_owned(),
            systems: BTreeMap::new(),
        })
    }
}

fn processor() -> Option<String> {
    let facts = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = facts.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}
