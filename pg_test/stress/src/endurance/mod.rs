//! What no error may do: leave anything behind in its session (`leaks`), or not come when it is asked for
//! (`interrupts`).

mod interrupts;
mod leaks;
mod memory;

pub use interrupts::{Answered, interrupts};
pub use leaks::leaks;
pub use memory::Kept;

use anyhow::{Result, ensure};
use postgres::Client;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::session::explain;

/// How long an answer may take on a busy machine; on an idle one it is far less than a second.
const PATIENCE: Duration = Duration::from_secs(10);
const FOR_LOCK: &str = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)";
const SET_UP: &str = include_str!("../../sql/endurance.sql");

/// What another session sees of an idle or ended one: locks, snapshots, progress; and copies, of whomever.
const LEFT: &str = "SELECT format('%s on %s', mode, coalesce(relation::regclass::text, locktype)) FROM pg_locks WHERE pid = $1 \
    UNION ALL SELECT 'a snapshot or xid' FROM pg_stat_activity \
      WHERE pid = $1 AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) \
    UNION ALL SELECT 'progress' FROM pg_stat_get_progress_info('COPY') AS p WHERE p.pid = $1 \
    UNION ALL SELECT nspname FROM pg_namespace WHERE nspname LIKE 'refold\\_copy%'";

fn require_nothing_left(other: &mut Client, pid: i32) -> Result<()> {
    let rows = other.query(LEFT, &[&pid]).map_err(explain)?;
    let left = rows.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<Vec<String>>>()?;
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}

fn until_true(control: &mut Client, sql: &str, pid: i32) -> Result<()> {
    let started = Instant::now();
    while !control.query_one(sql, &[&pid]).map_err(explain)?.try_get::<_, bool>(0)? {
        ensure!(started.elapsed() < PATIENCE, "the moment never came");
        sleep(Duration::from_millis(2));
    }
    Ok(())
}
