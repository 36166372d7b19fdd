//! A crash with prepared transactions: they, and their locks, are still there afterwards, and hold off whom they held off.

use anyhow::{Result, ensure};
use postgres::Client;
use postgres::error::SqlState;

use super::case::Kill;
use super::checks;
use super::ledger::Fate;
use super::world::{World, append_sql, expect, explain};

pub fn run(kill: Kill, world: &mut World) -> Result<()> {
    let mut client = world.connect_passing()?;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).map_err(explain)?.try_get(0)?;
    prepare(world, &mut client, "kept", Fate::Kept)?;
    prepare(world, &mut client, "dropped", Fate::Lost)?;
    world.append(&mut client, "after the prepared", 2)?;
    let witness = world.connect_passing()?;
    kill.strike(world, pid, witness)?;

    let mut client = world.connect_passing()?;
    let held_back = "SELECT count(*) FROM refold.event
        WHERE position > (SELECT max(position) FROM refold.read_all(0, 1000000))";
    let held_back: i64 = client.query_one(held_back, &[]).map_err(explain)?.try_get(0)?;
    ensure!(
        held_back == 2,
        "{held_back} events are held back from readers, not those after the prepared ones"
    );
    client.batch_execute("SET lock_timeout = '200ms'").map_err(explain)?;
    expect(&mut client, &append_sql("kept", "never", 1), &SqlState::LOCK_NOT_AVAILABLE)?;
    expect(&mut client, "SELECT refold.rebuild_projection('cart')", &SqlState::LOCK_NOT_AVAILABLE)?;
    client.batch_execute("COMMIT PREPARED 'kept'").map_err(explain)?;
    client.batch_execute("ROLLBACK PREPARED 'dropped'").map_err(explain)?;
    client.close().map_err(explain)?;
    checks::check(world)?;
    checks::rebuild_all(world)
}

/// An append to the stream of that name, and what will become of it in the end.
fn prepare(world: &mut World, client: &mut Client, name: &str, fate: Fate) -> Result<()> {
    let tag = world.ledger.new_tag();
    let append = append_sql(name, &tag, 2);
    client.batch_execute(&format!("BEGIN; {append}; PREPARE TRANSACTION '{name}'")).map_err(explain)?;
    world.ledger.enter(&tag, 2, fate);
    Ok(())
}
