//! A crash of a server that acknowledges commits before their records are on disk (synchronous_commit = off): the last
//! of them are lost, as PostgreSQL says, but they are the last, and the models are those of what is left.

use anyhow::{Result, ensure};

use super::case::Kill;
use super::checks;
use super::ledger::Fate;
use super::world::{World, append_sql, explain};

const APPENDS: usize = 60;

/// Appends, a rebuild and appends, then the crash.
pub fn run(kill: Kill, world: &mut World) -> Result<()> {
    let mut client = world.connect_passing()?;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).map_err(explain)?.try_get(0)?;
    let mut witness = world.connect_passing()?;
    let before = world.registry(&mut witness)?;
    client.batch_execute("SET synchronous_commit = off").map_err(explain)?;
    let mut tags = Vec::new();
    for number in 0..APPENDS {
        if number == APPENDS / 2 {
            let sql = "SELECT refold.rebuild_projection('sale', 'add_sales_twice(refold.event[])')";
            client.batch_execute(sql).map_err(explain)?;
        }
        let tag = world.ledger.new_tag();
        client.batch_execute(&append_sql("unflushed", &tag, 2)).map_err(explain)?;
        world.ledger.enter(&tag, 2, Fate::Unknown);
        tags.push(tag);
    }
    kill.strike(world, pid, witness)?;

    let mut client = world.connect_passing()?;
    let log = world.tags(&mut client)?;
    let lost = tags.iter().position(|tag| !log.contains_key(tag)).unwrap_or(APPENDS);
    let later = tags[lost..].iter().find(|tag| log.contains_key(*tag));
    ensure!(later.is_none(), "{later:?} is there, but an earlier append of the same session is not");
    let is_rebuilt = world.registry(&mut client)? != before;
    ensure!(is_rebuilt || lost <= APPENDS / 2, "appends after the rebuild are there, but the rebuild is not");
    checks::check(world)?;
    if is_rebuilt {
        let undo = "SELECT refold.rebuild_projection('sale', 'add_sales(refold.event[])')";
        client.batch_execute(undo).map_err(explain)?;
    }
    checks::rebuild_all(world)
}
