//! One meeting of two operations in one schedule: played, and judged by what must never come of any.

use anyhow::{Context, Result, ensure};

use crate::operation::{Level, Operation, STREAMS, Schedule};
use crate::session::{Progress, Reply, Stage};
use crate::world::{self, FAULTS, Kind};

/// Two operations, the first session's first, and their levels.
#[derive(Debug, Clone, Copy)]
pub struct Meeting {
    pub kind: Kind,
    pub operations: [Operation; 2],
    pub levels: [Level; 2],
}

impl Meeting {
    /// What comes of it: how the second session fares, after how the first one does if that is not `ok`.
    pub fn play(self, stage: &mut Stage, schedule: Schedule) -> Result<String> {
        let mut scene = Scene { meeting: self, stage, sessions: Default::default() };
        scene.play(schedule).and_then(|()| scene.judge(schedule)).with_context(|| {
            let [first, second] = self.operations.map(Operation::name);
            let [one, other] = self.levels.map(Level::short);
            let place = format!("{first} ({one}), {second} ({other})");
            format!("{}, {place}, {}\n{}", self.kind.name(), schedule.name(), scene.stage.transcript())
        })
    }

    /// Whether this session's operation is refused at its level.
    fn is_refused(self, session: usize) -> bool {
        self.operations[session].needs_read_committed() && self.levels[session] != Level::ReadCommitted
    }
}

/// How far one session has come.
#[derive(Debug, Default)]
struct Played {
    waited: bool,
    acted: Option<Reply>,
    ended: Option<Reply>,
    rolled_back: bool,
    /// What `read_all` gave.
    positions: Vec<i64>,
}

impl Played {
    /// The SQLSTATE that it failed with, and whether that was at its commit.
    fn failure(&self) -> Option<(&str, bool)> {
        let acted = self.acted.as_ref().and_then(Reply::sqlstate).map(|state| (state, false));
        acted.or_else(|| self.ended.as_ref().and_then(Reply::sqlstate).map(|state| (state, true)))
    }

    /// `ok`, `waits`, a SQLSTATE, or what of these came one after the other.
    fn class(&self) -> String {
        match (self.waited, self.failure()) {
            (false, None) => "ok".to_owned(),
            (true, None) => "waits".to_owned(),
            (waited, Some((state, late))) => {
                let (before, after) =
                    (if waited { "waits " } else { "" }, if late { " at commit" } else { "" });
                format!("{before}{state}{after}")
            }
        }
    }

    fn is_committed(&self) -> bool {
        !self.rolled_back && self.failure().is_none()
    }
}

const FIRST: usize = 0;
const SECOND: usize = 1;

/// Whether there is a projection when the two meet: unless one creates it, but not in the place of one that is dropped.
fn has_projection(operations: [Operation; 2]) -> bool {
    !operations.contains(&Operation::Create) || operations[FIRST] == Operation::Drop
}

struct Scene<'a> {
    meeting: Meeting,
    stage: &'a mut Stage,
    sessions: [Played; 2],
}

impl Scene<'_> {
    fn play(&mut self, schedule: Schedule) -> Result<()> {
        self.set()?;
        if schedule == Schedule::Older {
            self.begin(SECOND)?;
            self.look(SECOND)?;
        }
        self.begin(FIRST)?;
        self.act(FIRST)?;
        if matches!(schedule, Schedule::After | Schedule::Older) {
            self.end(FIRST, "COMMIT")?;
        }
        if schedule != Schedule::Older {
            self.begin(SECOND)?;
        }
        self.act(SECOND)?;
        match schedule {
            Schedule::After | Schedule::Older => self.end(SECOND, "COMMIT"),
            Schedule::Meanwhile => self.end(FIRST, "COMMIT").and_then(|()| self.end(SECOND, "COMMIT")),
            Schedule::Undone => self.end(FIRST, "ROLLBACK").and_then(|()| self.end(SECOND, "COMMIT")),
            Schedule::Overtakes => self.end(SECOND, "COMMIT").and_then(|()| self.end(FIRST, "COMMIT")),
        }
    }

    /// Two streams with an event each, appended by the sessions that go on with them: what they cache is filled.
    fn set(&mut self) -> Result<()> {
        let Meeting { kind, operations, .. } = self.meeting;
        if !has_projection(operations) {
            self.stage.set(world::RESET)?;
        } else {
            self.stage.set(world::RESET_TO_FIRST_HANDLER)?;
            if !world::has_projection(self.stage)? {
                self.ok(FIRST, &kind.create())?;
            }
        }
        self.ok(FIRST, &world::append(STREAMS[FIRST], "a0", "pen"))?;
        self.ok(SECOND, &world::append(STREAMS[SECOND], "b0", "ink"))
    }

    fn ok(&mut self, session: usize, statement: &str) -> Result<()> {
        let reply = self.stage.run(session, statement)?;
        ensure!(reply.sqlstate().is_none(), "it fails");
        Ok(())
    }

    fn begin(&mut self, session: usize) -> Result<()> {
        self.ok(session, self.meeting.levels[session].begin())
    }

    /// In whatever snapshot the session has, the model is the fold of the log.
    fn look(&mut self, session: usize) -> Result<()> {
        let faults = self.stage.run(session, FAULTS)?;
        ensure!(faults.is_empty(), "in its own snapshot the model is not the fold of the log");
        Ok(())
    }

    fn act(&mut self, session: usize) -> Result<()> {
        let operation = self.meeting.operations[session];
        if operation == Operation::Read {
            self.look(session)?;
        }
        let mut statement = operation.statement(self.meeting.kind, STREAMS[session]);
        if operation == Operation::Create && has_projection(self.meeting.operations) {
            // The tables of a new projection have to be empty.
            statement.insert_str(0, "DELETE FROM model; ");
        }
        match self.stage.start(session, &statement)? {
            Progress::Ends(reply) => self.acted(session, reply),
            Progress::Waits => {
                self.sessions[session].waited = true;
                Ok(())
            }
        }
    }

    fn acted(&mut self, session: usize, reply: Reply) -> Result<()> {
        let operation = self.meeting.operations[session];
        if operation == Operation::Verify {
            ensure!(reply.rows().is_empty(), "it finds a difference");
        }
        if operation == Operation::Read {
            for row in reply.rows() {
                self.sessions[session].positions.push(row.concat().parse()?);
            }
        }
        // Its own transaction sees its own work. In SERIALIZABLE to look would make conflicts.
        if reply.sqlstate().is_none() && self.meeting.levels[session] != Level::Serializable {
            self.look(session)?;
        }
        self.sessions[session].acted = Some(reply);
        Ok(())
    }

    /// Ends a transaction, once its statement has ended.
    fn end(&mut self, session: usize, command: &str) -> Result<()> {
        if self.sessions[session].acted.is_none() {
            let reply = self.stage.finish(session)?;
            self.acted(session, reply)?;
        }
        self.sessions[session].rolled_back = command == "ROLLBACK";
        self.sessions[session].ended = Some(self.stage.run(session, command)?);
        Ok(())
    }

    fn judge(&mut self, schedule: Schedule) -> Result<String> {
        let mut items = vec!["a0".to_owned(), "b0".to_owned()];
        for session in [FIRST, SECOND] {
            if self.sessions[session].is_committed() {
                items.extend(self.meeting.operations[session].adds(STREAMS[session]));
            }
        }
        world::judge(self.stage, &items)?;
        for session in [FIRST, SECOND] {
            self.judge_session(session)?;
            self.judge_positions(session)?;
        }
        let [first, second] = self.sessions.each_ref().map(Played::class);
        ensure!(
            schedule != Schedule::Undone || !second.contains("40001"),
            "what was rolled back is no reason to retry"
        );
        Ok(if first == "ok" { second } else { format!("{first} | {second}") })
    }

    fn judge_session(&self, session: usize) -> Result<()> {
        let (operation, level) = (self.meeting.operations[session], self.meeting.levels[session]);
        let played = &self.sessions[session];
        let fine = match played.failure() {
            failure if self.meeting.is_refused(session) => failure == Some(("25001", false)),
            None => true,
            Some(("40001", _)) if level == Level::ReadCommitted => false,
            Some((state, late)) => {
                operation.may_fail_with().contains(&state) && (!late || level == Level::Serializable)
            }
        };
        ensure!(fine, "{} must not end like this: {}", operation.name(), played.class());
        ensure!(!operation.only_reads() || !played.waited, "{} must not wait", operation.name());
        Ok(())
    }

    /// Whoever goes on from the last position that `read_all` gave misses nothing.
    fn judge_positions(&mut self, session: usize) -> Result<()> {
        let positions = &self.sessions[session].positions;
        let Some(last) = positions.iter().max() else { return Ok(()) };
        let query = format!("SELECT count(*) FROM refold.event WHERE position <= {last}");
        let seen = positions.len().to_string();
        ensure!(self.stage.look(&query)?.rows().concat() == [seen], "read_all has passed a gap");
        Ok(())
    }
}
