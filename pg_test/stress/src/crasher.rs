//! Brings the server down again and again, in each of three ways; clients connect again by themselves.

use anyhow::{Context, Result};
use rand::RngExt;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::plan::generator;
use crate::session::{Role, Session};
use crate::shared::Shared;

/// What is killed. PostgreSQL answers a backend's death by ending them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    Postmaster,
    /// A client's or a worker's.
    Backend(i32),
}

/// Kills, and returns when the server lets clients in again; whether there was anything to kill.
pub type Crasher<'a> = &'a (dyn Fn(Crash) -> Result<bool> + Sync);

/// Between two crashes, in milliseconds.
const PAUSE: std::ops::RangeInclusive<u64> = 700..=3500;

pub fn run(shared: &Shared, crash: Crasher) -> Result<()> {
    let mut session = Session::open(shared, Role::Protected, None)?;
    let mut rng = generator(shared.seed, 9000);
    while !shared.is_load_over() {
        thread::sleep(Duration::from_millis(rng.random_range(PAUSE)));
        let draw = rng.random_range(0..100);
        let pick = rng.random_range(0..1_000_000_usize);
        let (what, name) = match draw {
            0..40 => (Crash::Postmaster, "postmaster"),
            40..75 => match worker(&mut session)? {
                Some(pid) => (Crash::Backend(pid), "worker"),
                None => continue,
            },
            _ => {
                let victims = shared.victims();
                let Some(index) = pick.checked_rem(victims.len()) else { continue };
                let Some(&(pid, _)) = victims.get(index) else { continue };
                (Crash::Backend(pid), "client's backend")
            }
        };
        let from = SystemTime::now();
        shared.count_outage();
        let killed = crash(what).with_context(|| format!("the server does not come back after {what:?}"));
        shared.count_outage();
        if killed? {
            shared.stats.count_deed(&format!("killed: {name}"));
        }
        shared.timeline.add(from, format!("{what:?} killed"));
        shared.survived(&backends(&mut session)?);
    }
    Ok(())
}

/// All clients' backends.
fn backends(session: &mut Session) -> Result<Vec<i32>> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = current_database()";
    let rows = session.insist(|client| client.query(sql, &[]))?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Of a job, if there is one at work.
fn worker(session: &mut Session) -> Result<Option<i32>> {
    let sql =
        "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'refold%' AND datname = current_database()
               ORDER BY random() LIMIT 1";
    let rows = session.insist(|client| client.query(sql, &[]))?;
    rows.first().map(|row| Ok(row.try_get(0)?)).transpose()
}
