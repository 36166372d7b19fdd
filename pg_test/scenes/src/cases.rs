//! Six cases in which another event store's rebuild loses an event or doubles one, each for every way to rebuild and every
//! kind of handler.

use anyhow::{Context, Result, ensure};

use crate::session::{Progress, Stage};
use crate::world::{self, Kind};

/// How a model is rebuilt. A further way is one more of these, and every case is played in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Atomic,
    Concurrent,
    InPlace,
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Atomic, Self::Concurrent, Self::InPlace];

    pub fn name(self) -> &'static str {
        match self {
            Self::Atomic => "atomic",
            Self::Concurrent => "concurrent",
            Self::InPlace => "in place",
        }
    }

    fn rebuild(self, kind: Kind) -> String {
        let handler = kind.new_handler();
        match self {
            Self::Atomic => format!("SELECT FROM refold.rebuild_projection('model', '{handler}')"),
            Self::Concurrent => format!("CALL refold.rebuild_projection_concurrently('model', '{handler}')"),
            Self::InPlace => {
                format!("CALL refold.rebuild_projection_concurrently('model', '{handler}', in_place => true)")
            }
        }
    }

    /// A job is paused by what the handler raises, the others just fail.
    fn has_job(self) -> bool {
        self != Self::Atomic
    }
}

/// One of the six.
pub struct Case {
    pub name: &'static str,
    variants: &'static [fn(&mut Play) -> Result<()>],
}

pub const CASES: [Case; 6] = [
    Case {
        name: "an event committed while the rebuild handles its last batch",
        variants: &[committed_in_last_batch, first_of_its_row_in_last_batch],
    },
    Case {
        name: "an event in a transaction open across the rebuild's end",
        variants: &[open_before, open_since_last_batch, open_and_rolled_back, open_and_appends_late],
    },
    Case {
        name: "an idle rebuild of two transactions whose positions and xids are in opposite order",
        variants: &[opposite_order, opposite_order_reversed, opposite_order_half_committed],
    },
    Case { name: "a rebuild run twice in a row", variants: &[twice, twice_with_an_open_append] },
    Case { name: "a handler that throws once in the middle of a rebuild", variants: &[throws_once] },
    Case {
        name: "a rebuild and an append that wait for each other",
        variants: &[append_after_row_lock, append_after_append, append_behind_rebuild],
    },
];

impl Case {
    pub fn play(&self, stage: &mut Stage, mode: Mode, kind: Kind) -> Result<()> {
        for variant in self.variants {
            let mut play = Play { stage: &mut *stage, mode, kind, items: Vec::new() };
            play.set().and_then(|()| variant(&mut play)).and_then(|()| play.judge()).with_context(|| {
                format!("{}: {}, {}\n{}", self.name, mode.name(), kind.name(), stage.transcript())
            })?;
        }
        Ok(())
    }
}

/// The sessions that a stage for the cases has.
pub const CAST: [&str; 4] = ["rebuild", "one", "two", "brake"];
const REBUILD: usize = 0;
const ONE: usize = 1;
const TWO: usize = 2;
const BRAKE: usize = 3;

struct Play<'a> {
    stage: &'a mut Stage,
    mode: Mode,
    kind: Kind,
    /// What the log must have.
    items: Vec<String>,
}

impl Play<'_> {
    /// A stream with an event for each session that appends.
    fn set(&mut self) -> Result<()> {
        self.no_job_is_running()?;
        self.stage.set(world::RESET)?;
        self.ok(ONE, &self.kind.create())?;
        self.append(ONE, "a0")?;
        self.append(TWO, "b0")
    }

    fn judge(&mut self) -> Result<()> {
        self.no_job_is_running()?;
        world::judge(self.stage, &self.items)
    }

    /// A job goes on for a moment when its model is live, and refuses another rebuild until then.
    fn no_job_is_running(&mut self) -> Result<()> {
        const SQL: &str = "SELECT state, phase FROM refold.rebuild_jobs WHERE state = 'running'";
        ensure!(self.stage.becomes_empty(SQL)?, "a job does not end");
        Ok(())
    }

    fn ok(&mut self, session: usize, statement: &str) -> Result<()> {
        let reply = self.stage.run(session, statement)?;
        ensure!(reply.sqlstate().is_none(), "it fails");
        Ok(())
    }

    /// Appends to the session's own stream and row, and nobody may make it wait.
    fn append(&mut self, session: usize, item: &str) -> Result<()> {
        self.items.push(item.to_owned());
        self.ok(session, &statement(session, item))
    }

    fn rebuild(&mut self) -> Result<()> {
        self.ok(REBUILD, &self.mode.rebuild(self.kind))
    }

    fn rebuild_waits(&mut self) -> Result<()> {
        let progress = self.stage.start(REBUILD, &self.mode.rebuild(self.kind))?;
        ensure!(matches!(progress, Progress::Waits), "the rebuild does not wait");
        Ok(())
    }

    fn rebuild_still_waits(&mut self) -> Result<()> {
        ensure!(self.stage.goes_on_waiting(REBUILD)?, "the rebuild does not wait any more");
        Ok(())
    }

    fn rebuild_ends(&mut self) -> Result<()> {
        ensure!(self.stage.finish(REBUILD)?.sqlstate().is_none(), "the rebuild fails");
        Ok(())
    }

    /// A rebuild that has read all events and waits in the handler, at the last one of its last batch.
    fn rebuild_waits_in_last_batch(&mut self) -> Result<()> {
        self.append(ONE, "parking")?;
        self.ok(BRAKE, "SELECT pg_advisory_lock(1)")?;
        self.rebuild_waits()
    }

    fn go(&mut self) -> Result<()> {
        self.ok(BRAKE, "SELECT pg_advisory_unlock(1)")
    }
}

fn statement(session: usize, item: &str) -> String {
    if session == ONE { world::append("a", item, "pen") } else { world::append("b", item, "ink") }
}

fn committed_in_last_batch(play: &mut Play) -> Result<()> {
    play.rebuild_waits_in_last_batch()?;
    play.append(ONE, "a1")?;
    play.append(TWO, "b1")?;
    play.go()?;
    play.rebuild_ends()?;
    play.append(ONE, "a2")
}

fn first_of_its_row_in_last_batch(play: &mut Play) -> Result<()> {
    play.rebuild_waits_in_last_batch()?;
    play.items.push("c1".to_owned());
    play.ok(TWO, &world::append("c", "c1", "cup"))?;
    play.go()?;
    play.rebuild_ends()
}

fn open_before(play: &mut Play) -> Result<()> {
    play.ok(ONE, "BEGIN")?;
    play.append(ONE, "a1")?;
    play.rebuild_waits()?;
    play.append(TWO, "b1")?;
    play.append(ONE, "a2")?;
    play.rebuild_still_waits()?;
    play.ok(ONE, "COMMIT")?;
    play.rebuild_ends()?;
    play.append(ONE, "a3")
}

fn open_since_last_batch(play: &mut Play) -> Result<()> {
    play.rebuild_waits_in_last_batch()?;
    play.ok(ONE, "BEGIN")?;
    play.append(ONE, "a1")?;
    play.go()?;
    play.rebuild_still_waits()?;
    play.append(TWO, "b1")?;
    play.ok(ONE, "COMMIT")?;
    play.rebuild_ends()?;
    play.append(TWO, "b2")
}

fn open_and_rolled_back(play: &mut Play) -> Result<()> {
    play.rebuild_waits_in_last_batch()?;
    play.ok(ONE, "BEGIN")?;
    play.ok(ONE, &statement(ONE, "never"))?;
    play.go()?;
    play.rebuild_still_waits()?;
    play.append(TWO, "b1")?;
    play.ok(ONE, "ROLLBACK")?;
    play.rebuild_ends()?;
    play.append(ONE, "a1")
}

/// The tables change places with nobody in them, so that rebuild waits for readers too.
fn open_and_appends_late(play: &mut Play) -> Result<()> {
    play.ok(ONE, "BEGIN")?;
    play.ok(ONE, "SELECT pg_current_xact_id()")?;
    play.ok(ONE, "TABLE model")?;
    let waits = play.mode == Mode::Concurrent;
    if waits {
        play.rebuild_waits()?
    } else {
        play.rebuild()?
    }
    play.append(ONE, "a1")?;
    play.ok(ONE, "COMMIT")?;
    if waits { play.rebuild_ends() } else { Ok(()) }
}

/// Opens two transactions, whose events' positions are in the opposite order of their transaction ids.
fn in_opposite_order(play: &mut Play) -> Result<()> {
    play.ok(ONE, "BEGIN")?;
    play.ok(ONE, "SELECT pg_current_xact_id()")?;
    play.ok(TWO, "BEGIN")?;
    play.append(TWO, "b1")?;
    play.append(ONE, "a1")
}

/// Both have to be committed.
fn require_opposite_order(play: &mut Play) -> Result<()> {
    const SQL: &str = "SELECT data->>'item' FROM refold.event WHERE data->>'item' IN ('a1', 'b1') ORDER BY ";
    let by_position = play.stage.look(&format!("{SQL} position"))?;
    let by_xid = play.stage.look(&format!("{SQL} xmin::text::bigint"))?;
    ensure!(by_position.rows().concat() == ["b1", "a1"] && by_xid.rows().concat() == ["a1", "b1"]);
    Ok(())
}

fn opposite_order(play: &mut Play) -> Result<()> {
    committed_in_order(play, [ONE, TWO])
}

fn opposite_order_reversed(play: &mut Play) -> Result<()> {
    committed_in_order(play, [TWO, ONE])
}

fn committed_in_order(play: &mut Play, order: [usize; 2]) -> Result<()> {
    in_opposite_order(play)?;
    for session in order {
        play.ok(session, "COMMIT")?;
    }
    require_opposite_order(play)?;
    play.rebuild()
}

fn opposite_order_half_committed(play: &mut Play) -> Result<()> {
    in_opposite_order(play)?;
    play.ok(TWO, "COMMIT")?;
    play.rebuild_waits()?;
    play.ok(ONE, "COMMIT")?;
    play.rebuild_ends()?;
    require_opposite_order(play)
}

fn twice(play: &mut Play) -> Result<()> {
    play.rebuild()?;
    play.no_job_is_running()?;
    play.rebuild()?;
    play.judge()?;
    play.append(ONE, "a1")?;
    play.rebuild()
}

fn twice_with_an_open_append(play: &mut Play) -> Result<()> {
    play.ok(ONE, "BEGIN")?;
    play.append(ONE, "a1")?;
    play.rebuild_waits()?;
    play.append(TWO, "b1")?;
    play.ok(ONE, "COMMIT")?;
    play.rebuild_ends()?;
    play.no_job_is_running()?;
    play.rebuild()
}

fn throws_once(play: &mut Play) -> Result<()> {
    play.append(ONE, "a1")?;
    play.append(ONE, "failing")?;
    play.append(ONE, "a2")?;
    play.append(TWO, "b1")?;
    play.ok(BRAKE, "INSERT INTO trouble VALUES (1)")?;
    let failed = play.stage.run(REBUILD, &play.mode.rebuild(play.kind))?;
    let expected = if play.mode.has_job() { "55000" } else { "P0001" };
    ensure!(failed.sqlstate() == Some(expected), "the rebuild does not fail as it should");
    if play.mode != Mode::InPlace {
        // verify_projection would fail as the rebuild does.
        ensure!(play.stage.look(world::FAULTS)?.is_empty(), "the model has changed");
    }
    play.append(ONE, "a3")?;
    play.ok(BRAKE, "DELETE FROM trouble")?;
    if !play.mode.has_job() {
        play.judge()?;
        return play.rebuild();
    }
    play.ok(REBUILD, "SELECT refold.resume_rebuild('model')")?;
    play.judge()?;
    play.append(ONE, "a4")
}

fn append_after_row_lock(play: &mut Play) -> Result<()> {
    play.ok(ONE, "BEGIN")?;
    play.ok(ONE, "SELECT FROM model FOR UPDATE")?;
    play.rebuild_waits()?;
    play.append(ONE, "a1")?;
    play.rebuild_still_waits()?;
    play.ok(ONE, "COMMIT")?;
    play.rebuild_ends()
}

fn append_after_append(play: &mut Play) -> Result<()> {
    play.ok(ONE, "BEGIN")?;
    play.append(ONE, "a1")?;
    play.rebuild_waits()?;
    play.append(ONE, "a2")?;
    play.append(TWO, "b1")?;
    play.rebuild_still_waits()?;
    play.ok(ONE, "COMMIT")?;
    play.rebuild_ends()
}

/// The append is what waits: from the cut-over to the commit, if the rebuild has a transaction that is still open.
fn append_behind_rebuild(play: &mut Play) -> Result<()> {
    if play.mode != Mode::Atomic {
        return Ok(());
    }
    play.ok(REBUILD, "BEGIN")?;
    play.rebuild()?;
    play.items.push("a1".to_owned());
    let progress = play.stage.start(ONE, &statement(ONE, "a1"))?;
    ensure!(matches!(progress, Progress::Waits), "the append does not wait");
    play.ok(REBUILD, "COMMIT")?;
    ensure!(play.stage.finish(ONE)?.sqlstate().is_none(), "the append fails");
    Ok(())
}
