//! A base backup and the archived WAL: the store as it was between two events, and amid three jobs and a rebuild.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

use super::Cases;
use super::pair::{is_true, run as execute, value};
use crate::crash::case::{Running, at_doors, close_door, wait_for, wait_for_job};
use crate::crash::checks;
use crate::crash::ledger::Ledger;
use crate::crash::world::World;
use crate::install::Extension;
use crate::server::{Server, ServerOptions};
use crate::server_log;
use crate::toolchain::Postgres;

pub const NAMES: &[&str] = &[PREPARE, BETWEEN, AMID];
const PREPARE: &str = "recovery: a base backup, and WAL to two points in time";
const BETWEEN: &str = "recovery: to a point between two events";
const AMID: &str = "recovery: to a point amid jobs and a rebuild";

/// Each stands at its place at the second point: a job that mirrors, an atomic rebuild whose copy is full, a job in place
/// whose model is short, a job that builds.
const PARKED: [(&str, &str); 4] = [
    ("job: waiting for snapshots", "SELECT refold.start_rebuild('visit', 'add_visit_twice(refold.event)')"),
    ("build: log replayed", "SELECT refold.rebuild_projection('extra')"),
    (
        "in place: emptied",
        "SELECT refold.start_rebuild('sale', 'add_sales_twice(refold.event[])', in_place => true)",
    ),
    (
        "batch: checkpoint written",
        "SELECT refold.start_rebuild('cart', 'fold_cart_twice(cart, refold.event)')",
    ),
];
/// Of the archive: where, and the name of a segment.
const ARCHIVE: &str = "test ! -f {}/%f && cp %p {}/%f";

pub fn options() -> ServerOptions {
    ServerOptions::with(&[("archive_mode", "on")])
}

pub fn run(pg: &Postgres, extension: &Extension, server: &Server, cases: &mut Cases) -> Result<()> {
    let mut points = None;
    // The two others need it.
    cases.case(PREPARE, || {
        points = Some(prepare(pg, server)?);
        Ok(())
    });
    if points.is_none()
        && !PREPARE.contains(cases.only)
        && [BETWEEN, AMID].iter().any(|name| name.contains(cases.only))
    {
        points = Some(prepare(pg, server)?);
    }
    let Some(points) = points else { return Ok(()) };
    cases.case(BETWEEN, || between(pg, extension, &points));
    cases.case(AMID, || amid(pg, extension, &points));
    Ok(())
}

/// What was backed up, and what the clients knew at each point.
struct Points<'a> {
    world: World<'a>,
    backup: std::path::PathBuf,
    archive: std::path::PathBuf,
    between: Ledger,
    amid: Ledger,
}

fn prepare<'a>(pg: &Postgres, server: &'a Server) -> Result<Points<'a>> {
    let archive = server.make_folder("archive")?;
    let mut world = World::create(server)?;
    let mut client = world.connect_passing()?;
    let command = ARCHIVE.replace("{}", &archive.display().to_string());
    execute(&mut client, &format!("ALTER SYSTEM SET archive_command = '{command}'"))?;
    execute(&mut client, "SELECT pg_reload_conf()")?;
    let backup = back_up(pg, server)?;

    world.append(&mut client, "seed-1", 2)?;
    world.append(&mut client, "before", 1)?;
    execute(&mut client, "SELECT pg_create_restore_point('between')")?;
    let between = world.ledger.clone();
    world.append(&mut client, "seed-1", 3)?;
    execute(&mut client, "SELECT refold.create_projection('extra', 'fold_extra(extra, refold.event)')")?;

    let mut doorman = world.connect_passing()?;
    let mut sessions = Vec::new();
    for (place, sql) in PARKED {
        close_door(&mut doorman, place)?;
        sessions.push(Running::start(world.connect()?, sql.to_owned()));
        let count = sessions.len();
        wait_for(|| Ok((at_doors(&mut doorman)?.len() == count).then_some(())))
            .with_context(|| format!("waiting for somebody at \"{place}\""))?;
    }
    world.append(&mut client, "seed-2", 1)?;
    execute(&mut client, "SELECT pg_create_restore_point('amid')")?;
    let amid = world.ledger.clone();
    // All doors open.
    drop(doorman);
    for session in sessions {
        session.join()??;
    }
    wait_for_job(&mut client)?;
    world.append(&mut client, "seed-1", 2)?;
    checks::check(&mut world)?;
    let last: String = value(&mut client, "SELECT pg_walfile_name(pg_switch_wal())")?;
    let archived = format!("SELECT coalesce(last_archived_wal >= '{last}', false) FROM pg_stat_archiver");
    wait_for(|| Ok(is_true(&mut client, &archived)?.then_some(()))).context("waiting for the archive")?;
    Ok(Points { world, backup, archive, between, amid })
}

fn back_up(pg: &Postgres, server: &Server) -> Result<std::path::PathBuf> {
    let folder = server.make_folder("backup")?;
    let mut command = Command::new(pg.program("pg_basebackup"));
    command.args(["--checkpoint=fast", "--no-sync", "--wal-method=fetch", "--host"]).arg(server.socket_dir());
    command
        .args(["--port", &server.port().to_string(), "--username", server.user(), "--pgdata"])
        .arg(&folder);
    let output = server.as_account(command).output().context("cannot run pg_basebackup")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(folder)
}

/// A server from the backup, which has gone forward to the point and no further.
fn recover(pg: &Postgres, extension: &Extension, points: &Points, target: &str) -> Result<Server> {
    let archive = points.archive.display();
    let restore = format!("'cp {archive}/%f %p'");
    let options = ServerOptions::with(&[
        ("archive_mode", "off"),
        ("restore_command", &restore),
        ("recovery_target_name", &format!("'{target}'")),
        ("recovery_target_action", "promote"),
    ]);
    let server =
        Server::start_on(pg, extension, &options, |server| copy(&points.backup, &server.data_dir()))?;
    let mut client = points.world.copied_to(&server, Ledger::default()).connect_passing()?;
    let promoted = "SELECT NOT pg_is_in_recovery()";
    wait_for(|| Ok(is_true(&mut client, promoted)?.then_some(())))
        .context("waiting for the recovery's end")?;
    Ok(server)
}

fn copy(backup: &Path, to: &Path) -> Command {
    const SCRIPT: &str = r#"cp -a "$1/." "$2" && touch "$2/recovery.signal""#;
    let mut command = Command::new("sh");
    command.args(["-ec", SCRIPT, "sh"]).arg(backup).arg(to);
    command
}

fn between(pg: &Postgres, extension: &Extension, points: &Points) -> Result<()> {
    let server = recover(pg, extension, points, "between")?;
    // Who takes it for the store of later finds that events are missing.
    let mut later = points.world.copied_to(&server, points.amid.clone());
    let faults = checks::faults(&mut later)?;
    ensure!(faults.iter().any(|(name, _)| *name == checks::LEDGER), "the log has what came later");
    let mut world = points.world.copied_to(&server, points.between.clone());
    checks::check(&mut world)?;
    let mut client = world.connect_passing()?;
    world.append(&mut client, "seed-1", 1)?;
    world.append(&mut client, "after", 1)?;
    execute(&mut client, "CALL refold.rebuild_projection_concurrently('cart')")?;
    client.close()?;
    checks::check(&mut world)?;
    checks::rebuild_all(&world)?;
    checks::check(&mut world)?;
    server_log::check(&server.log_file())
}

fn amid(pg: &Postgres, extension: &Extension, points: &Points) -> Result<()> {
    const STATES: &str =
        "SELECT string_agg(name || ' ' || state, ', ' ORDER BY name) FROM refold.projections";
    let server = recover(pg, extension, points, "amid")?;
    let mut world = points.world.copied_to(&server, points.amid.clone());
    let mut client = world.connect_passing()?;
    let states: String = value(&mut client, STATES)?;
    let expected = "cart rebuilding, extra active, sale rebuilding, visit rebuilding";
    ensure!(states == expected, "the projections are: {states}");
    for stream in ["seed-3", "recovered"] {
        world.append(&mut client, stream, 3)?;
    }
    for sql in [
        "SELECT refold.cancel_rebuild('visit')",
        "SELECT refold.resume_rebuild('cart')",
        "SELECT refold.resume_rebuild('sale')",
    ] {
        execute(&mut client, sql)?;
        world.append(&mut client, "seed-3", 1)?;
    }
    wait_for_job(&mut client)?;
    let handlers: String =
        value(&mut client, "SELECT string_agg(handler, ', ' ORDER BY name) FROM refold.projections")?;
    let expected = "fold_cart_twice(cart,refold.event), fold_extra(extra,refold.event), \
                    add_sales_twice(refold.event[]), add_visit(refold.event)";
    ensure!(handlers == expected, "the handlers are: {handlers}");
    client.close()?;
    checks::check(&mut world)?;
    checks::rebuild_all(&world)?;
    checks::check(&mut world)?;
    server_log::check(&server.log_file())
}
