//! No crash, but nothing left: of the disk that a rebuild's copy is on, of the lock table, of the connections.

use anyhow::{Context, Result, ensure};
use postgres::error::SqlState;

use super::checks;
use super::ledger::Fate;
use super::run::Run;
use super::world::{World, append_sql, expect, explain};
use crate::account::Account;
use crate::server::{Server, ServerOptions};
use crate::small_disk::SmallDisk;

/// So that a transaction with some hundred locks fills the table, and a dozen clients all connections.
const SETTINGS: [(&str, &str); 8] = [
    ("max_connections", "12"),
    ("superuser_reserved_connections", "0"),
    ("max_locks_per_transaction", "14"),
    ("max_prepared_transactions", "0"),
    ("max_wal_senders", "0"),
    ("max_worker_processes", "2"),
    ("autovacuum_max_workers", "1"),
    ("shared_buffers", "'16MB'"),
];
const DISK: SmallDisk = SmallDisk { megabytes: 1 };
/// With a long value in each row of the fold's model: far more than the disk has.
const WIDE_STREAMS: usize = 250;
const REBUILD: &str = "SELECT refold.rebuild_projection('cart', 'fold_cart_twice(cart, refold.event)')";
const UNDO: &str = "SELECT refold.rebuild_projection('cart', 'fold_cart(cart, refold.event)')";

pub fn options() -> Result<ServerOptions> {
    Ok(ServerOptions { small_disk: may_mount()?.then_some(DISK), ..ServerOptions::with(&SETTINGS) })
}

fn may_mount() -> Result<bool> {
    Ok(matches!(Account::unprivileged()?, Account::Other { .. }))
}

pub fn run(server: &Server, run: &mut Run) -> Result<()> {
    let mut world = World::create(server)?;
    if may_mount()? {
        run.case("a full disk under a rebuild's copy", || full_disk(&mut world));
    } else {
        println!("not run: a full disk under a rebuild's copy (only root can mount one)");
    }
    run.case("a full lock table under an append", || many_streams(&mut world));
    run.case("a full lock table under a rebuild", || full_lock_table(&mut world));
    run.case("no connection left", || no_connection_left(&mut world));
    Ok(())
}

/// All is as it was, and the rebuild that failed works now.
fn recovered(world: &mut World) -> Result<()> {
    checks::check(world)?;
    let mut client = world.connect_passing()?;
    client.batch_execute(REBUILD).map_err(explain).context("the next rebuild")?;
    client.batch_execute(UNDO).map_err(explain)?;
    world.append(&mut client, "afterwards", 2)?;
    client.close().map_err(explain)?;
    checks::check(world)
}

fn full_disk(world: &mut World) -> Result<()> {
    let mut client = world.connect_passing()?;
    for stream in 0..WIDE_STREAMS {
        world.append(&mut client, &format!("wide-{stream}"), 8)?;
    }
    let folder = world.server.small_disk_dir();
    let create = format!("CREATE TABLESPACE small LOCATION '{}'", folder.display());
    client.batch_execute(&create).map_err(explain)?;
    let before = world.registry(&mut client)?;
    // The copy, then what the replay sorts: an index would spare it the sort.
    for setting in [
        "default_tablespace = small",
        "temp_tablespaces = small; SET work_mem = '64kB'; SET enable_indexscan = off",
    ] {
        client.batch_execute(&format!("SET {setting}")).map_err(explain)?;
        expect(&mut client, REBUILD, &SqlState::DISK_FULL)?;
        client.batch_execute("RESET ALL; SET refold.waitpoints = off").map_err(explain)?;
        ensure!(world.registry(&mut client)? == before, "the failed rebuild has changed the registry");
        // Dropped files are removed by the next checkpoint.
        client.batch_execute("CHECKPOINT").map_err(explain)?;
        let left: i64 = client
            .query_one("SELECT coalesce(sum(size), 0)::bigint FROM pg_tablespace AS t, pg_ls_dir('pg_tblspc/' || t.oid) AS v (version),
                          pg_ls_dir('pg_tblspc/' || t.oid || '/' || v.version) AS d (name),
                          pg_ls_dir('pg_tblspc/' || t.oid || '/' || v.version || '/' || d.name) AS f (name),
                          pg_stat_file('pg_tblspc/' || t.oid || '/' || v.version || '/' || d.name || '/' || f.name)
                         WHERE t.spcname = 'small'", &[])
            .map_err(explain)?
            .try_get(0)?;
        ensure!(left == 0, "{left} bytes are left on the small disk");
    }
    client.close().map_err(explain)?;
    recovered(world)
}

fn many_streams(world: &mut World) -> Result<()> {
    let mut client = world.connect_passing()?;
    let tag = world.ledger.new_tag();
    let sql = format!(
        "DO $$ BEGIN FOR i IN 1..100000 LOOP
           PERFORM refold.append_event('many-' || i, 'sold', '{{\"sku\": \"many\", \"n\": 1}}', '{{\"tag\": \"{tag}\"}}');
         END LOOP; END $$"
    );
    expect(&mut client, &sql, &SqlState::OUT_OF_MEMORY)?;
    world.ledger.enter(&tag, 1, Fate::Lost);
    // The same session goes on.
    world.append(&mut client, "after many", 2)?;
    client.close().map_err(explain)?;
    recovered(world)
}

/// A rebuild with no lock to be had, then with one, two, three, ...: each fails at another step, until one works.
fn full_lock_table(world: &mut World) -> Result<()> {
    const FILL: &str = "DO $$ BEGIN FOR i IN 1..1000000 LOOP PERFORM pg_advisory_lock(77, i); END LOOP;
                        EXCEPTION WHEN out_of_memory THEN NULL; END $$";
    let mut hog = world.connect_passing()?;
    let mut client = world.connect_passing()?;
    world.append(&mut client, "before the hog", 1)?;
    hog.batch_execute(FILL).map_err(explain)?;
    let tag = world.ledger.new_tag();
    let append = append_sql("under the hog", &tag, 1);
    expect(&mut client, &append, &SqlState::OUT_OF_MEMORY)?;
    world.ledger.enter(&tag, 1, Fate::Lost);
    let mut failed = 0;
    while let Err(error) = client.batch_execute(REBUILD) {
        if error.code() != Some(&SqlState::OUT_OF_MEMORY) {
            return Err(explain(error));
        }
        failed += 1;
        let free = "SELECT pg_advisory_unlock(77, objid::int) FROM pg_locks
                     WHERE pid = pg_backend_pid() AND classid = 77 AND locktype = 'advisory' LIMIT 1";
        hog.batch_execute(free).map_err(explain)?;
    }
    ensure!(failed > 5, "only {failed} rebuilds have failed");
    hog.close().map_err(explain)?;
    client.batch_execute(UNDO).map_err(explain)?;
    client.close().map_err(explain)?;
    recovered(world)
}

/// Whoever is connected goes on.
fn no_connection_left(world: &mut World) -> Result<()> {
    let mut client = world.connect_passing()?;
    let mut others = Vec::new();
    let refused = loop {
        match world.connect() {
            Ok(other) => others.push(other),
            Err(error) => break error,
        }
        ensure!(others.len() < 100, "there are always connections left");
    };
    ensure!(refused.to_string().starts_with(SqlState::TOO_MANY_CONNECTIONS.code()), "refused: {refused}");
    world.append(&mut client, "crowded", 2)?;
    client.batch_execute(REBUILD).map_err(explain)?;
    client.batch_execute(UNDO).map_err(explain)?;
    drop(others);
    client.close().map_err(explain)?;
    super::case::wait_for(|| Ok(world.connect().ok()))?.close().map_err(explain)?;
    recovered(world)
}
