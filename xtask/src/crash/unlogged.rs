//! A crash after a rebuild was undone: the server must start. It does not at once if the files of the rebuild's unlogged
//! copies are gone before the record of the abort is on disk (PostgreSQL's bug 17731).

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postgres::Client;

use super::case::wait_for;
use super::checks;
use super::world::{World, explain};

/// Unlogged tables are made, and are gone again.
pub struct Undone {
    pub name: &'static str,
    make: &'static str,
    undo: Undo,
}

enum Undo {
    By(&'static str),
    /// What the session says fails.
    Failing(&'static str),
    /// The session is ended.
    Ending,
}

pub const UNDONE: [Undone; 7] = [
    Undone {
        name: "a rebuild that was rolled back",
        make: "BEGIN; SELECT refold.rebuild_projection('cart')",
        undo: Undo::By("ROLLBACK"),
    },
    Undone {
        name: "a rebuild per event that was rolled back to a savepoint",
        make: "BEGIN; SAVEPOINT s; SELECT refold.rebuild_projection('visit')",
        undo: Undo::By("ROLLBACK TO s"),
    },
    Undone {
        name: "a rebuild that was rolled back with the savepoint around its own",
        make: "BEGIN; SAVEPOINT s; SAVEPOINT t; SELECT refold.rebuild_projection('sale'); RELEASE t",
        undo: Undo::By("ROLLBACK TO s"),
    },
    Undone {
        name: "a rebuild of one row whose transaction failed",
        make: "BEGIN; SELECT refold.rebuild_projection('cart', key => '{\"cart_id\": \"seed-1\"}')",
        undo: Undo::Failing("SELECT 1 / 0"),
    },
    Undone {
        name: "a verification whose session was ended",
        make: "BEGIN; SELECT refold.verify_projection('visit')",
        undo: Undo::Ending,
    },
    Undone {
        name: "a rebuild that was rolled back with what came before it",
        make: "BEGIN; SELECT refold.lock_gate(); SAVEPOINT s; SELECT refold.rebuild_projection('cart'); RELEASE s",
        undo: Undo::By("ROLLBACK"),
    },
    Undone {
        name: "a second rebuild that was rolled back, and the first was not",
        make: "BEGIN; SELECT refold.rebuild_projection('cart'); SAVEPOINT s; SELECT refold.rebuild_projection('sale')",
        undo: Undo::By("ROLLBACK TO s"),
    },
];

/// The record of the abort is on disk, and the server starts at the first attempt.
pub fn run(undone: &Undone, world: &mut World) -> Result<()> {
    let (session, is_flushed, wal_writer) = undo(undone, world)?;
    world.server.kill_postmaster()?;
    // It has stopped, and does not notice.
    kill(wal_writer, Signal::SIGKILL)?;
    drop(session);
    world.server.restart()?;
    ensure!(is_flushed, "the files are gone, and the record of the abort is not on disk");
    checks::check(world)
}

/// Without refold, the record is not on disk: what [`run`] asks can be answered with no.
pub fn control(world: &mut World) -> Result<()> {
    let plain = Undone {
        name: "an unlogged table",
        make: "BEGIN; CREATE UNLOGGED TABLE plain (i int PRIMARY KEY)",
        undo: Undo::By("ROLLBACK"),
    };
    let (_, is_flushed, wal_writer) = undo(&plain, world)?;
    kill(wal_writer, Signal::SIGCONT)?;
    ensure!(!is_flushed, "the record of any abort is on disk");
    Ok(())
}

/// With all on disk up to the undoing, and nobody who writes it there by the way: whether more is there afterwards. The
/// session goes on; the WAL writer has been stopped.
fn undo(undone: &Undone, world: &World) -> Result<(Client, bool, Pid)> {
    const FLUSHED: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint";
    let mut client = world.connect_passing()?;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).map_err(explain)?.try_get(0)?;
    let mut witness = world.connect_passing()?;
    let mut number =
        |sql: &str| -> Result<i64> { Ok(witness.query_one(sql, &[]).map_err(explain)?.try_get(0)?) };
    let wal_writer = number("SELECT pid::bigint FROM pg_stat_activity WHERE backend_type = 'walwriter'")
        .context("no WAL writer")?;
    let wal_writer = Pid::from_raw(i32::try_from(wal_writer)?);
    client.batch_execute(undone.make).map_err(explain)?;
    kill(wal_writer, Signal::SIGSTOP)?;
    // A commit takes all that was written before to the disk.
    world.connect_passing()?.batch_execute("CREATE TABLE flushes (); DROP TABLE flushes").map_err(explain)?;
    let before = number(FLUSHED)?;
    match undone.undo {
        Undo::By(sql) => client.batch_execute(sql).map_err(explain)?,
        Undo::Failing(sql) => {
            client.batch_execute(sql).err().ok_or_else(|| anyhow!("it works: {sql}"))?;
        }
        Undo::Ending => {
            let there =
                format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid = {pid}");
            wait_for(|| Ok((number(&there)? == 0).then_some(())))?;
        }
    }
    Ok((client, number(FLUSHED)? > before, wal_writer))
}
