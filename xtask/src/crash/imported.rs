//! The same exception as on a standby, on the primary: a snapshot that is handed on while a job waits for it.

use anyhow::{Context, Result, ensure};

use super::case::{wait_for, wait_for_job};
use super::standby::{Model, START_NEW, TO_OLD, expect_model};
use super::world::{World, explain};

/// The job waits for whoever had the snapshot when it looked, and not for who has it from them.
pub fn run(world: &mut World) -> Result<()> {
    let mut exporter = world.connect_passing()?;
    exporter.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").map_err(explain)?;
    let export = "SELECT pg_export_snapshot(), pg_backend_pid()";
    let row = exporter.query_one(export, &[]).map_err(explain)?;
    let (snapshot, pid): (String, i32) = (row.try_get(0)?, row.try_get(1)?);
    let mut client = world.connect_passing()?;
    client.batch_execute(START_NEW).map_err(explain)?;
    let waits =
        "SELECT FROM refold.rebuild_job WHERE phase = 'waiting for snapshots' AND $1 = ANY (waits_for)";
    wait_for(|| Ok(client.query_opt(waits, &[&pid]).map_err(explain)?.map(|_| ())))
        .context("waiting for the job to wait for the exporter")?;
    let mut importer = world.connect_passing()?;
    let import = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{snapshot}'; SELECT count(*) FROM refold.event"
    );
    importer.batch_execute(&import).map_err(explain)?;
    exporter.batch_execute("COMMIT").map_err(explain)?;
    wait_for_job(&mut client)?;
    expect_model("an imported snapshot", &mut importer, Model::Neither(0))?;
    let rows: i64 = client.query_one("SELECT count(*) FROM cart", &[]).map_err(explain)?.try_get(0)?;
    ensure!(rows > 0, "the model is empty");
    drop(importer);
    client.batch_execute(TO_OLD).map_err(explain)
}
