//! With the library preloaded nobody has to resume a job: after a crash, and where a worker was ended, the launcher does.

use anyhow::{Context, Result, ensure};
use postgres::Client;
use std::thread::sleep;
use std::time::Duration;

use super::case::{CRASHES, Kill, at_doors, close_door, open_door, wait_at_door, wait_for, wait_for_job};
use super::checks;
use super::run::Run;
use super::world::{World, explain};
use crate::server::{Server, ServerOptions};

/// In the middle of the replay.
const PLACE: &str = "batch: checkpoint written";
/// The launcher looks once a minute, and whenever it is told to read its settings.
const BETWEEN_WAKES: Duration = Duration::from_millis(100);
/// So often it is told to while its worker waits.
const WAKES: u32 = 10;

struct Job {
    name: &'static str,
    start: &'static str,
    undo: &'static str,
}

const CONCURRENT: Job = Job {
    name: "a concurrent rebuild",
    start: "SELECT refold.start_rebuild('cart', 'fold_cart_twice(cart, refold.event)')",
    undo: "SELECT refold.rebuild_projection('cart', 'fold_cart(cart, refold.event)')",
};
const IN_PLACE: Job = Job {
    name: "a rebuild in place",
    start: "SELECT refold.start_rebuild('sale', 'add_sales_twice(refold.event[])', in_place => true)",
    undo: "SELECT refold.rebuild_projection('sale', 'add_sales(refold.event[])')",
};

pub fn options() -> ServerOptions {
    let settings = vec![("shared_preload_libraries".to_owned(), "'refold'".to_owned())];
    ServerOptions { settings, ..Default::default() }
}

/// Says how many backends were killed.
pub fn run(server: &Server, run: &mut Run) -> Result<usize> {
    let mut killed = 0;
    let mut other = World::create(server)?;
    let mut world = World::create(server)?;
    for job in [CONCURRENT, IN_PLACE] {
        for kill in CRASHES {
            let name = format!("launcher: {} goes on, {}", job.name, kill.name());
            let ran = run.case(&name, || goes_on(&job, kill, &mut world));
            killed += usize::from(ran && kill == Kill::Backend);
        }
    }
    run.case("launcher: a worker that was ended is replaced", || is_replaced(&mut world));
    run.case("launcher: waits for its worker, whatever it reads meanwhile", || waits(&mut world));
    run.case("launcher: only the database that is named", || only_named(&mut world, &mut other));
    run.case("launcher: a database that is dropped with its job at work", || dropped(&mut world));
    Ok(killed)
}

/// Has the job's worker parked in the middle of its work; returns its process.
fn park(job: &Job, doorman: &mut Client) -> Result<i32> {
    close_door(doorman, PLACE)?;
    doorman.batch_execute(job.start).map_err(explain)?;
    wait_at_door(doorman).context("waiting for the job's worker")
}

/// The job is done, by its new handler, and taken back.
fn finish(job: &Job, world: &mut World) -> Result<()> {
    let mut client = world.connect_passing()?;
    wait_for_job(&mut client).context("waiting for the job, which nobody has resumed")?;
    let last = "SELECT state FROM refold.rebuild_job ORDER BY job_id DESC LIMIT 1";
    let state: String = client.query_one(last, &[]).map_err(explain)?.try_get(0)?;
    ensure!(state == "done", "the job is {state}");
    client.close().map_err(explain)?;
    checks::check(world)?;
    world.connect_passing()?.batch_execute(job.undo).map_err(explain)?;
    checks::rebuild_all(world)
}

fn goes_on(job: &Job, kill: Kill, world: &mut World) -> Result<()> {
    let mut doorman = world.connect_passing()?;
    let before = world.registry(&mut doorman)?;
    let worker = park(job, &mut doorman)?;
    kill.strike(world, worker, doorman)?;
    let mut client = world.connect_passing()?;
    world.append(&mut client, "after the crash", 2)?;
    wait_for_job(&mut client).context("waiting for the job, which nobody has resumed")?;
    ensure!(world.registry(&mut client)? != before, "the job has changed nothing");
    finish(job, world)
}

/// The next worker comes to the door at which the first was ended.
fn is_replaced(world: &mut World) -> Result<()> {
    let mut doorman = world.connect_passing()?;
    let first = park(&CONCURRENT, &mut doorman)?;
    let mut witness = world.connect_passing()?;
    Kill::Session.strike(world, first, world.connect_passing()?)?;
    let second = wait_for(|| {
        wake(&mut witness)?;
        Ok(at_doors(&mut witness)?.first().copied())
    })
    .context("waiting for another worker")?;
    ensure!(second != first, "the worker that was ended is still there");
    open_door(&mut doorman, PLACE)?;
    finish(&CONCURRENT, world)
}

/// While the worker that looks into a database waits there, the launcher starts no other, and goes on.
fn waits(world: &mut World) -> Result<()> {
    const LAUNCHER: &str = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'refold launcher'";
    const WAITING: &str =
        "SELECT array_agg(pid) FROM pg_locks WHERE relation = 'refold.rebuild_job'::regclass AND NOT granted";
    let mut holder = world.connect_passing()?;
    let mut witness = world.connect_passing()?;
    let launcher: i32 = witness.query_one(LAUNCHER, &[]).map_err(explain)?.try_get(0)?;
    holder.batch_execute("BEGIN; LOCK TABLE refold.rebuild_job").map_err(explain)?;
    let first: Vec<i32> = wait_for(|| {
        wake(&mut witness)?;
        Ok(witness.query_one(WAITING, &[]).map_err(explain)?.try_get(0)?)
    })
    .context("waiting for the launcher's worker")?;
    for _ in 0..WAKES {
        wake(&mut witness)?;
    }
    let last: Vec<i32> = witness.query_one(WAITING, &[]).map_err(explain)?.try_get(0)?;
    ensure!(first.len() == 1 && last == first, "process {first:?} looked there, and now {last:?}");
    let after: i32 = witness.query_one(LAUNCHER, &[]).map_err(explain)?.try_get(0)?;
    ensure!(after == launcher, "the launcher has ended");
    holder.batch_execute("ROLLBACK").map_err(explain)?;
    Ok(())
}

/// Two databases have a job whose worker is gone. The other database is the older one: each round looks there first.
fn only_named(world: &mut World, other: &mut World) -> Result<()> {
    let set = format!("ALTER SYSTEM SET refold.database = '{}'", world.database);
    world.connect_passing()?.batch_execute(&set).map_err(explain)?;
    let mut doormen = [world.connect_passing()?, other.connect_passing()?];
    for doorman in &mut doormen {
        park(&CONCURRENT, doorman)?;
    }
    world.server.kill_postmaster()?;
    world.server.restart()?;
    finish(&CONCURRENT, world)?;
    let mut client = other.connect_passing()?;
    let taken = "SELECT epoch FROM refold.rebuild_job WHERE state = 'running'";
    let taken = client.query_opt(taken, &[]).map_err(explain)?.map(|row| row.try_get(0)).transpose()?;
    ensure!(taken == Some(1_i64), "the job of the database that is not named has gone on: {taken:?}");
    client.batch_execute("ALTER SYSTEM RESET refold.database").map_err(explain)?;
    wake(&mut client)?;
    finish(&CONCURRENT, other)
}

/// Nobody misses it: not the launcher, nor the jobs of other databases.
fn dropped(world: &mut World) -> Result<()> {
    let doomed = World::create(world.server)?;
    let mut doorman = doomed.connect_passing()?;
    park(&CONCURRENT, &mut doorman)?;
    let mut client = world.connect_passing()?;
    client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", doomed.database)).map_err(explain)?;
    // Whom the launcher has sent to look elsewhere is gone soon.
    let left = "SELECT FROM pg_stat_activity WHERE backend_type = 'refold rebuild'";
    wait_for(|| Ok(client.query(left, &[]).map_err(explain)?.is_empty().then_some(())))
        .context("waiting for the last worker to end")?;
    wake(&mut client)?;
    is_replaced(world)
}

fn wake(client: &mut Client) -> Result<()> {
    client.batch_execute("SELECT pg_reload_conf()").map_err(explain)?;
    sleep(BETWEEN_WAKES);
    Ok(())
}
