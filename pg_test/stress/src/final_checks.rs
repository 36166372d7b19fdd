//! What must hold when all is over and nothing is open.

use anyhow::{Context, Result, bail, ensure};
use postgres::{Client, GenericClient};

use crate::ledger::{self, Logged, Outcome, Written};
use crate::oracle::{self, Looks};
use crate::poller::Followed;
use crate::session::explain;
use crate::shared::Shared;
use crate::world::connect;

/// Faults that are printed.
const LONGEST: usize = 20;

/// What was compared.
#[derive(Debug, Clone)]
pub struct Whole {
    pub logged: usize,
    pub unknown: usize,
    pub followed: usize,
    /// How many of each kind have ended how.
    pub jobs: String,
    /// How often a handler has failed on purpose.
    pub flaws: i64,
}

/// What may be left of nothing: each gives rows only if something is.
const LEFTOVERS: [(&str, &str); 9] = [
    (
        "a schema of a rebuild",
        "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'refold\\_copy\\_%' OR nspname LIKE 'refold\\_shadow\\_%'",
    ),
    ("an open job", "SELECT job_id || ' ' || state FROM refold.rebuild_job WHERE state NOT IN ('done', 'cancelled')"),
    ("a hidden table", "SELECT job_id::text FROM refold.shadow_table"),
    ("a projection whose shadow is kept up", "SELECT name || ' ' || mode FROM refold.projection WHERE mode <> 'active'"),
    ("a prepared transaction", "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"),
    (
        "a lock",
        "SELECT l.pid || ' ' || l.locktype || ' ' || l.mode FROM pg_locks l JOIN pg_database d ON d.oid = l.database
         WHERE d.datname = current_database() AND l.pid IS DISTINCT FROM pg_backend_pid()
           AND (l.locktype = 'advisory' OR l.relation IN ('refold.gate'::regclass, 'refold.event_position_seq'::regclass))",
    ),
    ("a rebuild in progress", "SELECT pid::text FROM refold.rebuild_progress"),
    ("a projection that is not active", "SELECT name || ' ' || state FROM refold.projections WHERE state <> 'active'"),
    (
        "a line without its bill",
        "SELECT stream_id FROM bill_line l WHERE NOT EXISTS (SELECT FROM bill b WHERE b.stream_id = l.stream_id)",
    ),
];

const JOBS: &str = "
    SELECT coalesce((SELECT string_agg(n || ' ' || kind || ' ' || state, ', ' ORDER BY kind, state)
                     FROM (SELECT count(*) AS n, kind, state FROM refold.rebuild_jobs GROUP BY 2, 3) j), 'none'),
           (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM flaws)";

pub fn check(shared: &Shared, followed: &mut [Followed]) -> Result<Whole> {
    let mut client = connect(&shared.config)?;
    oracle::require_all_exact(&mut client, Looks::all(), shared).context("at the end")?;
    let logged = check_log(shared, &mut client)?;
    let mut read = 0;
    for followed in followed {
        read += followed.require_whole(&mut client)?;
    }
    verify(&mut client)?;
    for (what, sql) in LEFTOVERS {
        let rows = client.query(sql, &[]).map_err(explain)?;
        let found = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        ensure!(found.is_empty(), "at the end there is {what}: {}", found.join(", "));
    }
    let unknown = shared.ledger().iter().filter(|entry| entry.outcome == Outcome::Unknown).count();
    let row = client.query_one(JOBS, &[]).map_err(explain)?;
    Ok(Whole { logged, unknown, followed: read, jobs: row.try_get(0)?, flaws: row.try_get(1)? })
}

/// Whether the log is what the clients were told; gives how many events it has.
pub fn check_log(shared: &Shared, client: &mut impl GenericClient) -> Result<usize> {
    let logged = read_log(client)?;
    check_ledger(shared, &logged)?;
    Ok(logged.len())
}

fn read_log(client: &mut impl GenericClient) -> Result<Vec<Logged>> {
    let sql = "SELECT coalesce(metadata->>'tx', '?'), stream_id, stream_version, position FROM refold.event ORDER BY position";
    let rows = client.query(sql, &[]).map_err(explain)?;
    rows.iter()
        .map(|row| {
            let event = Written { stream: row.try_get(1)?, version: row.try_get(2)? };
            Ok(Logged { tag: row.try_get(0)?, event, position: row.try_get(3)? })
        })
        .collect()
}

fn check_ledger(shared: &Shared, logged: &[Logged]) -> Result<()> {
    let faults = ledger::faults(&shared.ledger(), logged);
    if faults.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = faults.iter().take(LONGEST).map(String::as_str).collect();
    bail!("the log is not what the clients were told, in {} places:\n  {}", faults.len(), shown.join("\n  "));
}

fn verify(client: &mut Client) -> Result<()> {
    let names = client.query("SELECT name FROM refold.projections ORDER BY 1", &[]).map_err(explain)?;
    for row in names {
        let name: String = row.try_get(0)?;
        let sql = "SELECT count(*), min(key::text) FROM refold.verify_projection($1)";
        let row = client.query_one(sql, &[&name]).map_err(explain).context(name.clone())?;
        let (count, first): (i64, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        ensure!(count == 0, "verify_projection('{name}') finds {count} rows at the end, of them {first:?}");
    }
    Ok(())
}
