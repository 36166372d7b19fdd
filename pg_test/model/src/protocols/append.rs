//! An append to refold, and what it would be with one part of it wrong.

use crate::database::{Event, Phase, Projection, Table};
use crate::kernel::{Mode, Target};
use crate::program::{Flow, Program};
use crate::session::{Act, Isolation, in_words};

/// The parts of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Gate,
    Stream,
    State,
    Tables,
    Key,
    Draw,
    Apply,
}

/// One part wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    GateAfterDraw,
    /// And not read again.
    StateBeforeGate,
    /// The state is read in the statement that locks the gate.
    StateOnOlderSnapshot,
    /// The cached state outlives its invalidation.
    StateKept,
    KeyAfterDraw,
    /// The state is not read again once the tables are locked.
    StateReadOnce,
    /// The snapshot may be older than the state: without I5.
    SnapshotNotChecked,
}

impl Wrong {
    fn order(wrong: Option<Self>) -> [Part; 7] {
        use Part::*;
        match wrong {
            Some(Self::GateAfterDraw) => [Stream, Key, Draw, Gate, State, Tables, Apply],
            Some(Self::StateBeforeGate) => [State, Gate, Stream, Tables, Key, Draw, Apply],
            Some(Self::KeyAfterDraw) => [Gate, Stream, State, Tables, Draw, Key, Apply],
            _ => [Gate, Stream, State, Tables, Key, Draw, Apply],
        }
    }
}

/// A client that appends one event to one stream, in each of its transactions.
#[derive(Debug, Clone, Copy)]
pub struct Append {
    name: char,
    stream: char,
    key: char,
    isolation: Isolation,
    rounds: u8,
    reads_model: Option<Mode>,
    wrong: Option<Wrong>,
}

/// Appends to the stream of that name, which feeds the row of that name.
pub fn append(name: char, stream: char, key: char) -> Append {
    let isolation = Isolation::ReadCommitted;
    Append { name, stream, key, isolation, rounds: 1, reads_model: None, wrong: None }
}

impl Append {
    pub fn twice(self) -> Self {
        Self { rounds: 2, ..self }
    }

    pub fn repeatable_read(self) -> Self {
        Self { isolation: Isolation::RepeatableRead, ..self }
    }

    /// Its transaction locks the live table before it appends: with AccessShare it reads, with RowShare it locks rows.
    pub fn after_locking_live(self, mode: Mode) -> Self {
        Self { reads_model: Some(mode), ..self }
    }

    pub fn wrong(self, wrong: Wrong) -> Self {
        Self { wrong: Some(wrong), ..self }
    }

    pub fn program(self) -> Program {
        let ignores = self.wrong == Some(Wrong::StateKept);
        let mut program = Program::new(format!("append {}", self.name))
            .quietly(move |act| {
                act.me.ignores_invalidations = ignores;
                Flow::Next
            })
            .label("retry")
            .begin(self.isolation);
        if self.isolation == Isolation::RepeatableRead {
            program = program.then(|act| {
                act.snapshot();
                act.say(|| "begins, and keeps its first snapshot".into());
                Flow::Next
            });
        }
        if let Some(mode) = self.reads_model {
            program = program.lock(Target::Live, mode);
        }
        if self.wrong == Some(Wrong::StateOnOlderSnapshot) {
            program = program.then(|act| {
                act.me.memory.snapshot = Some(act.newest());
                act.say(|| {
                    "starts the statement that locks the gate and reads the state: its snapshot".into()
                });
                Flow::Next
            });
        }
        for part in Wrong::order(self.wrong) {
            program = self.part(program, part);
        }
        let rounds = self.rounds;
        program
            .publish()
            .or(|act| {
                act.say(|| "rolls back; its position stays drawn".into());
                act.abort();
                Flow::To("next")
            })
            .release_locks()
            .label("next")
            .quietly(move |act| {
                act.me.rounds += 1;
                if act.me.rounds < rounds { Flow::To("retry") } else { Flow::End }
            })
    }

    fn part(self, program: Program, part: Part) -> Program {
        let Self { stream, key, wrong, .. } = self;
        match part {
            // I1: before the draw, to the transaction's end.
            Part::Gate => program.lock(Target::Gate, Mode::RowExclusive),
            Part::Stream => program.lock(Target::Stream(stream), Mode::Exclusive),
            // I4.
            Part::State => program.then(read_state),
            Part::Tables => {
                lock_tables(program, wrong).quietly(move |act| require_fresh_snapshot(act, stream, wrong))
            }
            // I6.
            Part::Key => program.lock(Target::Key(key), Mode::Exclusive),
            Part::Draw => program.then(move |act| {
                act.insert_event(stream, key);
                Flow::Next
            }),
            Part::Apply => program
                .then(apply_to_live)
                .quietly(|act| match act.me.memory.projection.phase {
                    Phase::Mirroring => Flow::Next,
                    _ => Flow::To("applied"),
                })
                .then(mirror)
                .or(fail_to_mirror)
                .label("applied"),
        }
    }
}

fn read_state(act: &mut Act<'_>) -> Flow {
    let projection = state(act);
    act.me.memory.projection = projection;
    let Projection { phase, generation, .. } = projection;
    act.say(|| format!("reads the state: {}, generation {generation}", in_words(phase)));
    Flow::Next
}

/// The cached state, or the newest, which is then cached.
fn state(act: &mut Act<'_>) -> Projection {
    let snapshot = act.me.memory.snapshot.take().unwrap_or_else(|| act.newest());
    let projection = act.me.cache.unwrap_or_else(|| act.read_projection(snapshot));
    act.me.cache = Some(projection);
    projection
}

/// Locks the tables that the state names, and reads the state again until it stands still.
fn lock_tables(program: Program, wrong: Option<Wrong>) -> Program {
    let reads_again = !matches!(wrong, Some(Wrong::StateReadOnce | Wrong::StateBeforeGate));
    program
        .label("tables")
        .quietly(|act| match act.me.memory.projection.phase {
            Phase::Skipping | Phase::Rebuilding => Flow::To("locked"),
            Phase::Active | Phase::Mirroring => Flow::Next,
        })
        .lock(Target::Live, Mode::RowExclusive)
        .quietly(|act| match act.me.memory.projection.phase {
            Phase::Mirroring => Flow::Next,
            _ => Flow::To("again"),
        })
        .lock(Target::Shadow, Mode::RowExclusive)
        .label("again")
        .then(move |act| {
            let before = act.me.memory.projection;
            if !reads_again || state(act) == before {
                return Flow::Next;
            }
            read_state(act);
            Flow::To("tables")
        })
        .label("locked")
}

/// I5, and the stream's version: a snapshot that is kept must not belong to an older world.
fn require_fresh_snapshot(act: &mut Act<'_>, stream: char, wrong: Option<Wrong>) -> Flow {
    if act.me.open != Some(Isolation::RepeatableRead) {
        return Flow::Next;
    }
    let (kept, newest) = (act.snapshot(), act.newest());
    let version = |snapshot| act.db.events_seen_by(snapshot).filter(|event| event.stream == stream).count();
    if version(kept) != version(newest) {
        return Flow::Fail("the stream has changed since its snapshot (40001)");
    }
    let applies =
        wrong != Some(Wrong::SnapshotNotChecked) && act.me.memory.projection.phase != Phase::Skipping;
    if applies && act.read_projection(kept) != act.me.memory.projection {
        return Flow::Fail("the projection was rebuilt after its snapshot (40001)");
    }
    Flow::Next
}

fn own_event(act: &Act<'_>) -> Option<Event> {
    act.db.log.iter().find(|event| event.position == act.me.memory.position).copied()
}

fn apply_to_live(act: &mut Act<'_>) -> Flow {
    let Projection { phase, logic, .. } = act.me.memory.projection;
    let (Some(event), Phase::Active | Phase::Mirroring) = (own_event(act), phase) else {
        act.say(|| "does not apply its event".into());
        return Flow::Next;
    };
    let flow = act.apply(Table::Live, event, logic);
    if flow == Flow::Next {
        act.say(|| "applies its event to the live table".into());
    }
    flow
}

/// In a subtransaction: what fails here does not fail the append.
fn mirror(act: &mut Act<'_>) -> Flow {
    let Some(event) = own_event(act) else { return Flow::Next };
    let flow = act.apply(Table::Shadow, event, act.me.memory.projection.other_logic);
    if flow == Flow::Next {
        let which = other_logic(act);
        act.say(|| format!("applies it to the shadow with {which} logic"));
    }
    flow
}

/// In words: by age.
fn other_logic(act: &Act<'_>) -> &'static str {
    let Projection { logic, other_logic, .. } = act.me.memory.projection;
    if other_logic > logic { "the new" } else { "the old" }
}

fn fail_to_mirror(act: &mut Act<'_>) -> Flow {
    if act.db.mishaps == 0 {
        return Flow::Wait;
    }
    act.db.mishaps -= 1;
    let failure = (act.me.memory.projection.generation, act.me.xid());
    act.db.mirror_failures.push(failure);
    let which = other_logic(act);
    act.say(|| format!("{which} logic fails on it: writes a row in mirror_failure instead"));
    Flow::Next
}
