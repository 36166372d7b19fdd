//! What must hold after every crash.

use anyhow::{Context, Result, anyhow, ensure};
use postgres::Client;
use std::collections::HashSet;
use std::fs;

use super::world::{World, explain};

/// The largest file that a crash may leave of a rebuild's copy: PostgreSQL empties unlogged relations at its start, and
/// an empty index has one page.
const ONE_PAGE: u64 = 8192;

/// Name and query: each row that it gives is a fault.
const QUERIES: [(&str, &str); 8] = [
    (
        "streams without holes",
        "SELECT stream_id || ' at ' || stream_version
           FROM (SELECT stream_id, stream_version, row_number() OVER w AS n, lag(position, 1, 0::bigint) OVER w < position AS later
                   FROM refold.event WINDOW w AS (PARTITION BY stream_id ORDER BY stream_version)) AS e
          WHERE stream_version <> n OR NOT later",
    ),
    (
        "readers get all",
        "SELECT 'read_all gives ' || r.n || ' of ' || e.n || ' events'
           FROM (SELECT count(*) AS n FROM refold.read_all(0, 1000000)) AS r, (SELECT count(*) AS n FROM refold.event) AS e
          WHERE r.n <> e.n",
    ),
    (
        "models equal the log",
        "SELECT p.name || ' ' || v.relation::text || ' ' || left(v.key::text, 60)
           FROM refold.projections AS p, LATERAL refold.verify_projection(p.name) AS v",
    ),
    (
        "projections active",
        "SELECT p.name || ' ' || p.state FROM refold.projections AS p WHERE p.state <> 'active'
            AND NOT EXISTS (SELECT FROM refold.rebuild_jobs AS j WHERE j.projection = p.name AND j.state = 'running')",
    ),
    (
        "nothing left",
        "SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'refold\\_copy\\_%'
         UNION ALL SELECT 'rebuild of ' || r.projection FROM refold.rebuild_progress AS r
          WHERE NOT EXISTS (SELECT FROM refold.rebuild_jobs AS j WHERE j.projection = r.projection AND j.state = 'running')
         UNION ALL SELECT 'prepared ' || gid FROM pg_prepared_xacts WHERE database = current_database()
         UNION ALL SELECT 'temporary file ' || name FROM pg_ls_tmpdir()
         UNION ALL SELECT 'lock ' || l.locktype || ' ' || l.mode || ' of ' || coalesce(l.pid::text, '?')
           FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database AND d.datname = current_database()
          WHERE l.pid IS DISTINCT FROM pg_backend_pid()
            AND NOT EXISTS (SELECT FROM refold.rebuild_job AS j WHERE j.worker = l.pid AND j.state = 'running')
            AND (l.locktype = 'advisory' OR l.relation IN ('refold.gate'::regclass, 'refold.event_position_seq'::regclass))",
    ),
    (
        "heaps sound",
        "SELECT t.oid::regclass || ' block ' || v.blkno || ': ' || v.msg
           FROM checked AS t, LATERAL verify_heapam(t.oid) AS v",
    ),
    (
        "indexes sound",
        "SELECT c.checked FROM checked AS t JOIN pg_index AS i ON i.indrelid = t.oid AND i.indisvalid
           JOIN pg_class AS x ON x.oid = i.indexrelid JOIN pg_am AS a ON a.oid = x.relam AND a.amname = 'btree',
                LATERAL (SELECT bt_index_parent_check(x.oid, true, true)::text AS checked) AS c
          WHERE c.checked <> ''",
    ),
    (
        "something checked",
        "SELECT 'only ' || count(*) || ' tables' FROM checked HAVING count(*) < 9",
    ),
];

/// refold's tables, the read models, their shadows, and what they keep their long values in.
const CHECKED: &str = "WITH main AS (
    SELECT c.oid, c.reltoastrelid FROM pg_class AS c
     WHERE c.relkind = 'r' AND (c.relnamespace = 'refold'::regnamespace
       OR c.relnamespace::regnamespace::text LIKE 'refold\\_shadow\\_%'
       OR c.oid IN (SELECT t.relation::oid FROM refold.projection_table AS t))
  ), checked AS (SELECT oid FROM main UNION SELECT reltoastrelid FROM main WHERE reltoastrelid <> 0) ";

pub const LEDGER: &str = "acknowledged appends are in the log";
pub const FILES: &str = "no large files without a table";

/// Fails with all that does not hold.
pub fn check(world: &mut World) -> Result<()> {
    let faults = faults(world)?;
    let told: Vec<_> = faults.iter().map(|(name, fault)| format!("{name}: {fault}")).collect();
    ensure!(told.is_empty(), "{}", told.join("\n"));
    Ok(())
}

/// What does not hold, by name and with the reason.
pub fn faults(world: &mut World) -> Result<Vec<(&'static str, String)>> {
    let mut faults = Vec::new();
    let mut note = |name, result: Result<()>| {
        if let Err(error) = result {
            faults.push((name, format!("{error:#}")));
        }
    };
    // A connection for each: what one finds may end it.
    note(LEDGER, ledger(world));
    for (name, sql) in QUERIES {
        note(name, world.connect_passing().and_then(|mut client| query(&mut client, sql)));
    }
    note(FILES, files(world));
    Ok(faults)
}

fn ledger(world: &mut World) -> Result<()> {
    let mut client = world.connect_passing()?;
    let tags = world.tags(&mut client)?;
    world.ledger.compare(&tags)
}

fn query(client: &mut Client, sql: &str) -> Result<()> {
    let rows = client.query(&format!("{CHECKED}{sql}"), &[]).map_err(explain)?;
    let found = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    ensure!(found.is_empty(), "{}", found.join("; "));
    Ok(())
}

/// Files that no catalog knows: an empty file or one page may stay of a copy, but not its rows.
fn files(world: &World) -> Result<()> {
    let mut client = world.connect_passing()?;
    let sql = "SELECT oid::text, array(SELECT pg_relation_filenode(c.oid)::text FROM pg_class AS c
                 WHERE pg_relation_filenode(c.oid) IS NOT NULL) FROM pg_database WHERE datname = current_database()";
    let row = client.query_one(sql, &[]).map_err(explain)?;
    let (database, known): (String, Vec<String>) = (row.try_get(0)?, row.try_get(1)?);
    let known: HashSet<String> = known.into_iter().collect();
    let folder = world.server.data_dir().join("base").join(database);
    let mut large = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.split(['_', '.']).next().unwrap_or_default();
        let is_relation = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        // A file that was dropped is emptied at once and removed by the next checkpoint.
        if is_relation && !known.contains(number) && entry.metadata().is_ok_and(|file| file.len() > ONE_PAGE)
        {
            large.push(name);
        }
    }
    if large.is_empty() { Ok(()) } else { Err(anyhow!("{}", large.join(", "))) }
}

/// Builds every projection anew: it works, and finds nothing to change.
pub fn rebuild_all(world: &World) -> Result<()> {
    let mut client = world.connect_passing()?;
    let names = client.query("SELECT name FROM refold.projections ORDER BY 1", &[]).map_err(explain)?;
    for row in names {
        let name: String = row.try_get(0)?;
        let sql = "SELECT rows_inserted + rows_updated + rows_deleted FROM refold.rebuild_projection($1)";
        let changed: i64 = client.query_one(sql, &[&name]).map_err(explain)?.try_get(0)?;
        ensure!(changed == 0, "the next rebuild of {name} has changed {changed} rows");
    }
    Ok(())
}
