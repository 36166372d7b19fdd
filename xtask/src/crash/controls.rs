//! What the checks look for is put there, and must be found.

use anyhow::{Context, Result, bail, ensure};
use postgres::Client;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use super::case::{Case, Kill, Place};
use super::checks;
use super::run::Run;
use super::victim::VICTIMS;
use super::world::{World, explain};
use crate::server::Server;

struct Control {
    name: &'static str,
    /// The check that must find it.
    found_by: &'static str,
    damage: fn(&mut World) -> Result<()>,
}

const CONTROLS: [Control; 9] = [
    Control { name: "an event lost", found_by: checks::LEDGER, damage: |world| sql(world, LOSE_EVENT) },
    Control {
        name: "a stream with a hole",
        found_by: "streams without holes",
        damage: |world| sql(world, TEAR),
    },
    Control {
        name: "a model's row lost",
        found_by: "models equal the log",
        damage: |world| sql(world, "DELETE FROM cart WHERE cart_id = 'seed-3'"),
    },
    Control { name: "a model that recovery empties", found_by: "models equal the log", damage: unlogged },
    Control {
        name: "an index without an entry",
        found_by: "indexes sound",
        damage: |world| sql(world, MISS),
    },
    Control { name: "a torn row", found_by: "heaps sound", damage: overwrite },
    Control {
        name: "a copy left",
        found_by: "nothing left",
        damage: |world| sql(world, "CREATE SCHEMA refold_copy_1"),
    },
    Control { name: "a file left", found_by: checks::FILES, damage: leave_file },
    Control {
        name: "a handler lost",
        found_by: "projections active",
        damage: |world| sql(world, "DROP FUNCTION add_sales(refold.event[])"),
    },
];

const LOSE_EVENT: &str = "ALTER TABLE refold.event DISABLE TRIGGER ALL;
    DELETE FROM refold.event WHERE position = (SELECT max(position) FROM refold.event)";
const TEAR: &str = "ALTER TABLE refold.event DISABLE TRIGGER ALL;
    UPDATE refold.event SET stream_version = 99 WHERE stream_id = 'seed-3' AND stream_version = 4";
/// While the index is not ready, nothing is entered.
const MISS: &str = "UPDATE pg_index SET indisready = false WHERE indexrelid = 'sale_sold'::regclass;
    INSERT INTO sale VALUES ('unseen', 1);
    UPDATE pg_index SET indisready = true WHERE indexrelid = 'sale_sold'::regclass";

pub fn run(server: &Server, run: &mut Run) {
    for control in &CONTROLS {
        run.case(&format!("control, {}", control.name), || control.run(server));
    }
    run.case("control, an abort whose record is not on disk", || {
        super::unlogged::control(&mut World::create(server)?)
    });
    run.case("control, nobody comes to a waitpoint", || nobody_comes(server));
}

impl Control {
    fn run(&self, server: &Server) -> Result<()> {
        let mut world = World::create(server)?;
        checks::check(&mut world).context("before anything is broken")?;
        (self.damage)(&mut world)?;
        let faults = checks::faults(&mut world)?;
        let found = faults.iter().any(|(name, _)| *name == self.found_by);
        ensure!(found, "\"{}\" does not find it; what is found: {faults:?}", self.found_by);
        Ok(())
    }
}

fn sql(world: &mut World, sql: &str) -> Result<()> {
    let mut client = world.connect_passing()?;
    sql.split(';').try_for_each(|statement| client.batch_execute(statement).map_err(explain))
}

/// What a crash empties: the tables that are not in the WAL.
fn unlogged(world: &mut World) -> Result<()> {
    sql(world, "ALTER TABLE sale SET UNLOGGED")?;
    world.server.kill_postmaster()?;
    world.server.restart()
}

/// Gives the first row of a table a transaction id from the future, in its file.
fn overwrite(world: &mut World) -> Result<()> {
    let mut client = world.connect_passing()?;
    client.batch_execute("CHECKPOINT").map_err(explain)?;
    let path = file_of(&mut client, "visit_line")?;
    world.server.kill_postmaster()?;
    drop(client);
    let file = File::options().read(true).write(true).open(world.server.data_dir().join(path))?;
    // A page's header has 24 bytes; the row's place is in the first 15 bits after it.
    let mut pointer = [0; 2];
    file.read_exact_at(&mut pointer, 24)?;
    let row = u16::from_le_bytes(pointer) & 0x7fff;
    file.write_all_at(&0x7000_0000_u32.to_le_bytes(), u64::from(row))?;
    drop(file);
    world.server.restart()
}

fn file_of(client: &mut Client, table: &str) -> Result<String> {
    Ok(client
        .query_one("SELECT pg_relation_filepath($1::text::regclass)", &[&table])
        .map_err(explain)?
        .try_get(0)?)
}

fn leave_file(world: &mut World) -> Result<()> {
    let mut client = world.connect_passing()?;
    let path = world.server.data_dir().join(file_of(&mut client, "visit_line")?);
    Ok(fs::write(path.with_file_name("4000000000"), vec![0; 100_000])?)
}

/// A waitpoint that its victim does not come to is told, not waited for.
fn nobody_comes(server: &Server) -> Result<()> {
    let mut world = World::create(server)?;
    let place = Place::Waitpoint("append: in a place that is not".to_owned());
    match (Case { place, victim: &VICTIMS[0], kill: Kill::Backend }).run(&mut world) {
        Ok(()) => bail!("it has passed"),
        Err(error) if format!("{error:#}").contains("without coming there") => Ok(()),
        Err(error) => Err(error),
    }
}
