//! A crash after a rebuild was undone: the server must start. It does not at once if the files of the rebuild's unlogged
//! copies are gone before the record of the abort is on disk (PostgreSQL's bug 17731).

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
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
    /// It was undone already, in a handler, and all before it was flushed there.
    Within,
}

pub const UNDONE: [Undone; 8] = [
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
    Undone {
        name: "a handler that has emptied its table, and caught an error",
        make:
            "CREATE FUNCTION add_visit_undoing(event refold.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                 IF event.stream_id = 'seed-1' AND event.stream_version = 1 THEN
                   BEGIN
                     TRUNCATE visit_line;
                     PERFORM pg_switch_wal();
                     RAISE 'on purpose';
                   EXCEPTION WHEN raise_exception THEN
                   END;
                 END IF;
                 PERFORM add_visit(event);
               END $$;
               BEGIN; SELECT refold.rebuild_projection('visit', 'add_visit_undoing(refold.event)')",
        undo: Undo::Within,
    },
];

/// The record of the abort is on disk, and the server starts at the first attempt.
pub fn run(undone: &Undone, world: &mut World) -> Result<()> {
    let Undoing { session, pid, is_flushed, wal_writer } = undo(undone, world)?;
    world.server.kill_postmaster()?;
    // Nobody writes more on his way out.
    for process in [pid, wal_writer.0] {
        kill(process, Signal::SIGKILL)
            .or_else(|error| if error == Errno::ESRCH { Ok(()) } else { Err(error) })?;
    }
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
    ensure!(!undo(&plain, world)?.is_flushed, "the record of any abort is on disk");
    Ok(())
}

/// A handler that catches errors with each event has nothing written to the disk: there are no files to delete.
pub fn no_files(world: &mut World) -> Result<()> {
    let caught = Undone {
        name: "errors that were caught",
        make:
            "CREATE FUNCTION add_visit_catching(event refold.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM add_visit(event);
                 INSERT INTO visit_line VALUES (event.stream_id, event.stream_version, 0);
               EXCEPTION WHEN unique_violation THEN
                 PERFORM add_visit(event);
               END $$;
               BEGIN",
        undo: Undo::By("SELECT refold.rebuild_projection('visit', 'add_visit_catching(refold.event)')"),
    };
    ensure!(!undo(&caught, world)?.is_flushed, "each error that a handler catches is flushed");
    Ok(())
}

struct Undoing {
    session: Client,
    pid: Pid,
    /// Whether more is on disk than before it.
    is_flushed: bool,
    wal_writer: Stopped,
}

/// A process that has been stopped; it goes on when this is dropped.
struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).ok();
    }
}

/// With all on disk up to the undoing, and nobody who writes it there by the way. The session goes on.
fn undo(undone: &Undone, world: &World) -> Result<Undoing> {
    const FLUSHED: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint";
    let mut session = world.connect_passing()?;
    let pid: i32 = session.query_one("SELECT pg_backend_pid()", &[]).map_err(explain)?.try_get(0)?;
    let mut witness = world.connect_passing()?;
    let mut number =
        |sql: &str| -> Result<i64> { Ok(witness.query_one(sql, &[]).map_err(explain)?.try_get(0)?) };
    let wal_writer = number("SELECT pid::bigint FROM pg_stat_activity WHERE backend_type = 'walwriter'")
        .context("no WAL writer")?;
    let wal_writer = Pid::from_raw(i32::try_from(wal_writer)?);
    kill(wal_writer, Signal::SIGSTOP)?;
    let wal_writer = Stopped(wal_writer);
    let mut before = number(FLUSHED)?;
    session.batch_execute(undone.make).map_err(explain)?;
    if !matches!(undone.undo, Undo::Within) {
        // A commit takes all that was written before to the disk.
        world
            .connect_passing()?
            .batch_execute("CREATE TABLE flushes (); DROP TABLE flushes")
            .map_err(explain)?;
        before = number(FLUSHED)?;
    }
    match undone.undo {
        Undo::By(sql) => session.batch_execute(sql).map_err(explain)?,
        Undo::Failing(sql) => {
            session.batch_execute(sql).err().ok_or_else(|| anyhow!("it works: {sql}"))?;
        }
        Undo::Ending => {
            let there =
                format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid = {pid}");
            wait_for(|| Ok((number(&there)? == 0).then_some(())))?;
        }
        Undo::Within => {}
    }
    Ok(Undoing { session, pid: Pid::from_raw(pid), is_flushed: number(FLUSHED)? > before, wal_writer })
}
