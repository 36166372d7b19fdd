//! Restores into the wrong place, under load, and of what is not whole.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::facts::{facts, require_same, require_sound, require_verified};
use super::{SOURCE, World, connect};
use crate::crash::explain;
use crate::server::Server;

type Case = fn(&World) -> Result<()>;

pub const CASES: [(&str, Case); 8] = [
    ("dumped again, the same", dumped_again),
    ("dumped again, after appends", dumped_again_after_appends),
    ("another server", another_server),
    ("a database made from it", template),
    ("into a store that was used", used_store),
    ("without the owner", without_owner),
    ("what was lost before the dump", lost),
    ("while appends and rebuilds run", under_load),
];

/// A restored database that nobody has used gives the same dump, byte by byte.
fn dumped_again(world: &World) -> Result<()> {
    let first = world.tools.file("first.sql");
    world.tools.dump(world.server, SOURCE, &[], &first)?;
    world.server.create_database("again")?;
    world.tools.run_script(world.server, "again", &first)?;
    let second = world.tools.file("second.sql");
    world.tools.dump(world.server, "again", &[], &second)?;
    // Newer programs write a random key.
    let text = |file| -> Result<String> {
        let text = fs::read_to_string(file)?;
        Ok(text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n"))
    };
    let (first, second) = (text(&first)?, text(&second)?);
    for word in [
        "COPY refold.rebuild",
        "COPY refold.shadow",
        "COPY refold.mirror",
        "COPY refold.installation",
        "refold_shadow",
        "setval",
    ] {
        ensure!(!first.contains(word), "the dump has {word}");
    }
    let difference = first.lines().zip(second.lines()).find(|(first, second)| first != second);
    ensure!(first == second, "the dumps differ: {difference:?}");
    world.server.drop_database("again")
}

/// What was restored, and went on, can be dumped and restored.
fn dumped_again_after_appends(world: &World) -> Result<()> {
    let first = world.tools.file("first.dump");
    world.tools.dump(world.server, SOURCE, &["--format=custom"], &first)?;
    restored(world, world.server, "used", &first, &[])?;
    let mut client = connect(world.server, "used")?;
    world.goes_on(&mut client)?;
    client.batch_execute("SELECT refold.drop_projection('late')").map_err(explain)?;
    let used = facts(&mut client)?;
    let second = world.tools.file("second.dump");
    world.tools.dump(world.server, "used", &["--format=custom"], &second)?;
    restored(world, world.server, "used twice", &second, &[])?;
    require_same(&used, &facts(&mut connect(world.server, "used twice")?)?)?;
    drop(client);
    world.server.drop_database("used twice")?;
    world.server.drop_database("used")
}

fn restored(
    world: &World,
    server: &Server,
    database: &str,
    dump: &std::path::Path,
    options: &[&str],
) -> Result<()> {
    server.create_database(database)?;
    world.tools.restore(server, database, options, dump)
}

/// All databases and the roles, into a server with other OIDs and younger transaction ids.
fn another_server(world: &World) -> Result<()> {
    let script = world.tools.file("all.sql");
    world.tools.dump_all(world.server, &script)?;
    // The roles are there already.
    let complaints = world.tools.run_script_on(world.elsewhere, "postgres", &script)?;
    let others: Vec<_> = complaints.lines().filter(|line| !line.contains(" already ")).collect();
    ensure!(others.is_empty(), "{}", others.join("\n"));
    let mut client = connect(world.elsewhere, SOURCE)?;
    world.goes_on(&mut client)?;
    drop(client);
    world.elsewhere.drop_database(SOURCE)
}

/// The copy is open as its template, and both go on.
fn template(world: &World) -> Result<()> {
    connect(world.server, "postgres")?
        .batch_execute(&format!("CREATE DATABASE copied TEMPLATE {SOURCE}"))
        .map_err(explain)?;
    let mut client = connect(world.server, "copied")?;
    require_same(&world.source, &facts(&mut client)?)?;
    super::refuses_plain_inserts(&mut client)?;
    world.tools.dump(world.server, "copied", &[], &world.tools.file("copied.sql"))?;
    // The positions drawn at the end and rolled back stay dead here.
    client
        .batch_execute("SELECT refold.append_event('cart-1', 'sold', '{\"sku\": \"a\", \"n\": 1}')")
        .map_err(explain)?;
    super::commands_work(&mut client)?;
    require_sound(&mut client)?;
    drop(client);
    world.server.drop_database("copied")
}

/// Nothing of the dump gets into a store that has been used, however little.
fn used_store(world: &World) -> Result<()> {
    const COUNT: &str = "SELECT concat_ws(' ', (SELECT count(*) FROM refold.event), (SELECT count(*) FROM refold.projection),
        (SELECT count(*) FROM refold.projection_table), (SELECT count(*) FROM refold.skipped_event), (SELECT count(*) FROM refold.serial_turn),
        (SELECT last_value FROM refold.event_position_seq))";
    let script = world.tools.file("used.sql");
    world.tools.dump(world.server, SOURCE, &[], &script)?;
    for (use_it, left) in [
        ("SELECT refold.append_event('a', 'b', '{}')", "1 0 0 0 0 1"),
        ("SELECT refold.open_store()", "0 0 0 0 0 1"),
    ] {
        world.server.create_database("used store")?;
        let mut client = connect(world.server, "used store")?;
        client.batch_execute("CREATE EXTENSION refold").map_err(explain)?;
        client.batch_execute(use_it).map_err(explain)?;
        let complaints = world.tools.run_script_on(world.server, "used store", &script)?;
        let refused = complaints.matches("cannot be inserted into refold").count();
        ensure!(refused == 5, "{refused} of 5 tables were refused: {complaints}");
        let found: String = client.query_one(COUNT, &[]).map_err(explain)?.try_get(0)?;
        ensure!(found == left, "after {use_it} and the restore there is {found}");
        drop(client);
        world.server.drop_database("used store")?;
    }
    Ok(())
}

/// Whoever restores owns everything, and has not agreed to run the handlers: appends fail until each is rebuilt.
fn without_owner(world: &World) -> Result<()> {
    let dump = world.tools.file("no owner.dump");
    world.tools.dump(world.server, SOURCE, &["--format=custom"], &dump)?;
    restored(world, world.elsewhere, "no owner", &dump, &["--no-owner", "--no-privileges"])?;
    let mut client = connect(world.elsewhere, "no owner")?;
    let states = |client: &mut postgres::Client| -> Result<String> {
        let sql = "SELECT string_agg(DISTINCT state, ' ') FROM refold.projections";
        Ok(client.query_one(sql, &[]).map_err(explain)?.try_get(0)?)
    };
    ensure!(states(&mut client)? == "broken", "before it is opened: {}", states(&mut client)?);
    let append = "SELECT refold.append_event('cart-1', 'sold', '{\"sku\": \"sku-1\", \"n\": 1}')";
    let error = client.batch_execute(append).err().context("an append runs handlers for a new owner")?;
    ensure!(error.code().is_some_and(|code| code.code() == "55000"), "{}", explain(error));
    client.batch_execute("SELECT refold.open_store()").map_err(explain)?;
    ensure!(states(&mut client)? == "broken", "opened: {}", states(&mut client)?);
    client
        .batch_execute("SELECT refold.rebuild_projection(name) FROM refold.projections")
        .map_err(explain)?;
    client.batch_execute(append).map_err(explain)?;
    require_sound(&mut client)?;
    drop(client);
    world.elsewhere.drop_database("no owner")
}

/// A handler or table that was dropped before the dump is not there afterwards either, whatever has its number, and whoever
/// makes another of its name before the store is opened.
fn lost(world: &World) -> Result<()> {
    connect(world.server, "postgres")?
        .batch_execute(&format!("CREATE DATABASE lossy TEMPLATE {SOURCE}"))
        .map_err(explain)?;
    let mut client = connect(world.server, "lossy")?;
    client
        .batch_execute(
            "DROP FUNCTION shop.add_tally; DROP TABLE shop.journal;
             CREATE OR REPLACE FUNCTION \"Odd \"\"Schema\"\"\".sku_of(event refold.event) RETURNS text LANGUAGE sql IMMUTABLE
               RETURN (event).data->>'sku' || ''",
        )
        .map_err(explain)?;
    let dump = world.tools.file("lossy.dump");
    world.tools.dump(world.server, "lossy", &["--format=custom"], &dump)?;
    drop(client);
    world.server.drop_database("lossy")?;
    restored(world, world.server, "lossy", &dump, &[])?;
    let mut client = connect(world.server, "lossy")?;
    client
        .batch_execute(
            "GRANT USAGE, CREATE ON SCHEMA shop TO shop_app; SET ROLE shop_app;
             CREATE FUNCTION shop.add_tally(events refold.event[]) RETURNS void LANGUAGE plpgsql
               AS 'BEGIN RAISE EXCEPTION ''planted code runs as %'', current_user; END';
             RESET ROLE",
        )
        .map_err(explain)?;
    let sql = "SELECT string_agg(concat_ws(': ', name, state), ', ' ORDER BY name COLLATE \"C\") FROM refold.projections";
    for _ in 0..2 {
        let states: String = client.query_one(sql, &[]).map_err(explain)?.try_get(0)?;
        let expected = "Cart: active, journal: broken, sales of \"all\": stale, tally: broken";
        ensure!(states == expected, "{states}");
        client.batch_execute("SELECT refold.open_store()").map_err(explain)?;
    }
    for (event_type, code) in [("sold", Some("55000")), ("looked at", Some("55000"))] {
        let append = format!("SELECT refold.append_event('cart-1', '{event_type}', '{{}}')");
        let found = client.batch_execute(&append).err().and_then(|error| error.code().cloned());
        ensure!(found.as_ref().map(postgres::error::SqlState::code) == code, "{append}: {found:?}");
    }
    client
        .batch_execute("SELECT refold.drop_projection('journal'); SELECT refold.drop_projection('tally')")
        .map_err(explain)?;
    client.batch_execute("SELECT refold.append_event('cart-1', 'looked at', '{}')").map_err(explain)?;
    drop(client);
    world.server.drop_database("lossy")
}

/// The dump sees one moment, whatever goes on; what a rebuild makes meanwhile is not in it.
fn under_load(world: &World) -> Result<()> {
    connect(world.server, "postgres")?
        .batch_execute(&format!("CREATE DATABASE busy TEMPLATE {SOURCE}"))
        .map_err(explain)?;
    let done = AtomicBool::new(false);
    let loops = [
        "SELECT refold.append_event(format('cart-%s', (random() * 20)::int), 'sold', '{\"sku\": \"sku-3\", \"n\": 1}')",
        "SELECT refold.append_event(format('busy-%s', (random() * 20)::int), 'returned', '{\"sku\": \"sku-4\", \"n\": 2}')",
        "SELECT refold.rebuild_projection('Cart')",
        "CALL refold.rebuild_projection_concurrently('sales of \"all\"')",
    ];
    let repeat = &|sql: &str| -> Result<()> {
        let mut client = connect(world.server, "busy")?;
        while !done.load(Ordering::Relaxed) {
            client.batch_execute(sql).map_err(explain).with_context(|| sql.to_owned())?;
        }
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let threads = loops.map(|sql| scope.spawn(move || repeat(sql)));
        let checked = (0..4).try_for_each(|number| {
            let dump = world.tools.file(&format!("busy {number}"));
            world.tools.dump(world.server, "busy", &["--format=directory", "--jobs=2"], &dump)?;
            restored(world, world.elsewhere, "busy", &dump, &[])?;
            let mut client = connect(world.elsewhere, "busy")?;
            require_verified(&mut client, false).with_context(|| format!("dump {number}"))?;
            super::appends_go_on(&mut client)?;
            require_verified(&mut client, true).with_context(|| format!("dump {number}, after an append"))?;
            drop(client);
            world.elsewhere.drop_database("busy")
        });
        done.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        checked
    })?;
    require_sound(&mut connect(world.server, "busy")?)?;
    world.server.drop_database("busy")
}
