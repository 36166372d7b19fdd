//! Transactions that are left open while a job is at work: it waits for them and says so, and nobody else waits.

use anyhow::{Context, Result, ensure};
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
/// A transaction id that is later than all there are.
const NOW: &str = "SELECT pg_current_xact_id()::text";
/// The worker's snapshot, if that is older than a transaction id.
const HELD_BACK: &str = "SELECT FROM pg_stat_activity AS a JOIN refold.rebuild_job AS j ON j.worker = a.pid \
    WHERE j.state = 'running' AND age(a.backend_xmin) > age($1::text::xid)";

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

    others_go_on(world, &mut client, &mut appender, true).context("beside the idle appender")?;
    appender.batch_execute("COMMIT").map_err(explain)?;
    others_go_on(world, &mut client, &mut reader, false).context("beside the idle reader")?;
    reader.batch_execute("COMMIT").map_err(explain)?;
    wait_for_job(&mut client)?;
    checks::check(world)?;
    client.batch_execute(TO_OLD).map_err(explain)
}

/// Until the job has named the idle session for some time. An append that waits for a lock for longer than a job may ask
/// for the gate, fails. An idle session with a transaction id keeps every snapshot's horizon where it is; beside one
/// without, the worker must have no snapshot from before its wait.
fn others_go_on(world: &mut World, client: &mut Client, idle: &mut Client, has_xid: bool) -> Result<()> {
    let pid: i32 = idle.query_one("SELECT pg_backend_pid()", &[]).map_err(explain)?.try_get(0)?;
    let named = "SELECT FROM refold.rebuild_job WHERE state = 'running' AND $1 = ANY (waits_for)";
    wait_for(|| Ok(client.query_opt(named, &[&pid]).map_err(explain)?.map(|_| ())))
        .context("waiting for the job to name whom it waits for")?;
    let mut other = world.connect_passing()?;
    // Loads the library, and with it its settings.
    world.append(&mut other, "others", 1)?;
    let limit = "SELECT set_config('lock_timeout', current_setting('refold.gate_timeout'), false)";
    other.batch_execute(limit).map_err(explain)?;
    let began = other.query_one(NOW, &[]).map_err(explain)?;
    let began: &str = began.try_get(0)?;
    let started = Instant::now();
    while started.elapsed() < IDLE {
        world.append(&mut other, "others", 1)?;
        if !has_xid {
            let held = client.query_opt(HELD_BACK, &[&began]).map_err(explain)?;
            ensure!(held.is_none(), "the job's worker keeps a snapshot while it waits: vacuum is held back");
        }
        sleep(PAUSE);
    }
    let still = client.query_opt(named, &[&pid]).map_err(explain)?;
    still.map(|_| ()).context("the job does not name whom it waits for any more")
}
