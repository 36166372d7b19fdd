//! Transactions that are left open while a job is at work: it waits for them and says so, and nobody else waits.

use anyhow::{Context, Result};
use postgres::Client;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::case::{wait_for, wait_for_job};
use super::checks;
use super::ledger::Fate;
use super::standby::{START_NEW, TO_OLD};
use super::world::{World, append_sql, explain};

pub const NAME: &str = "an idle appender, then an idle reader, beside a job: others append";
/// For so long each of them does nothing.
const IDLE: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(40);

pub fn run(world: &mut World) -> Result<()> {
    let mut appender = world.connect_passing()?;
    let tag = world.ledger.new_tag();
    let append = append_sql("idle", &tag, 1);
    appender.batch_execute(&format!("BEGIN; {append}")).map_err(explain)?;
    world.ledger.enter(&tag, 1, Fate::Kept);
    let mut reader = world.connect_passing()?;
    let read = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM cart";
    reader.batch_execute(read).map_err(explain)?;
    let mut client = world.connect_passing()?;
    client.batch_execute(START_NEW).map_err(explain)?;

    others_go_on(world, &mut client, &mut appender).context("beside the idle appender")?;
    appender.batch_execute("COMMIT").map_err(explain)?;
    others_go_on(world, &mut client, &mut reader).context("beside the idle reader")?;
    reader.batch_execute("COMMIT").map_err(explain)?;
    wait_for_job(&mut client)?;
    checks::check(world)?;
    client.batch_execute(TO_OLD).map_err(explain)
}

/// Until the job has named the idle session for some time. An append that waits for a lock for longer than a job may ask
/// for the gate, fails.
fn others_go_on(world: &mut World, client: &mut Client, idle: &mut Client) -> Result<()> {
    let pid: i32 = idle.query_one("SELECT pg_backend_pid()", &[]).map_err(explain)?.try_get(0)?;
    let named = "SELECT FROM refold.rebuild_job WHERE state = 'running' AND $1 = ANY (waits_for)";
    wait_for(|| Ok(client.query_opt(named, &[&pid]).map_err(explain)?.map(|_| ())))
        .context("waiting for the job to name whom it waits for")?;
    let mut other = world.connect_passing()?;
    // Loads the library, and with it its settings.
    world.append(&mut other, "others", 1)?;
    let limit = "SELECT set_config('lock_timeout', current_setting('refold.gate_timeout'), false)";
    other.batch_execute(limit).map_err(explain)?;
    let started = Instant::now();
    while started.elapsed() < IDLE {
        world.append(&mut other, "others", 1)?;
        sleep(PAUSE);
    }
    let still = client.query_opt(named, &[&pid]).map_err(explain)?;
    still.map(|_| ()).context("the job does not name whom it waits for any more")
}
