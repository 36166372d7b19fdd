//! What no error may do: leave anything behind in its session (`leaks`), or not come when it is asked for
//! (`interrupts`).

mod interrupts;
mod leaks;

pub use interrupts::{Answered, interrupts};
pub use leaks::leaks;

use anyhow::{Result, ensure};
use postgres::Client;

use crate::session::explain;

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
