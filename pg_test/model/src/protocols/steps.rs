//! Steps that several of refold's rebuilds have in common.

use crate::database::{Event, Position, Projection, Stage, Table};
use crate::kernel::{Mode, Target};
use crate::program::{Flow, Program};
use crate::session::{Act, Isolation};

/// Lemma B: reads L and waits until whoever had drawn a position by then has ended. Every position up to L is final.
pub fn watermark(program: Program) -> Program {
    program
        .then(|act| {
            read_last_drawn(act);
            act.note_holders(Target::Sequence, Mode::ShareRowExclusive)
        })
        .await_noted()
}

/// Waits politely, then takes the gate within a short time, or goes on at the label.
pub fn gate_or(program: Program, label: &'static str) -> Program {
    program.wait_for_holders(Target::Gate, Mode::ShareRowExclusive).lock_or(
        Target::Gate,
        Mode::ShareRowExclusive,
        label,
    )
}

/// Only looks at the sequence: without a lock.
pub fn read_last_drawn(act: &mut Act<'_>) {
    let limit = act.db.last_value;
    act.me.memory.limit = limit;
    act.say(|| format!("reads the sequence: last position {limit}"));
}

/// When a worker looks whether the job is still its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// When it writes the job's row, which nobody else can write then.
    AtWrite,
    /// Only when it begins with what it writes later.
    AtRead,
    None,
}

/// A worker's start, the first and each after a crash: makes the job its own, and goes on where the job is.
pub fn take_job(program: Program, fence: Fence, go_on: fn(Stage) -> &'static str) -> Program {
    program
        .restarts_at("start")
        .label("start")
        .begin(Isolation::ReadCommitted)
        .then(|act| act.take_job())
        .commit()
        .quietly(move |act| {
            act.me.fenced = fence == Fence::AtWrite;
            Flow::Next
        })
        .begin(Isolation::ReadCommitted)
        .quietly(move |act| Flow::To(go_on(act.db.job.seen_by(&act.newest()).stage)))
}

/// Ends where the job is another worker's by now.
pub fn require_own(act: &mut Act<'_>) -> Flow {
    if act.owns_job() {
        return Flow::Next;
    }
    act.say(|| "finds that the job is not its own any more".into());
    act.abort();
    Flow::End
}

/// Reads how far the job is, at the start of a transaction that goes on from there.
pub fn read_checkpoint(program: Program) -> Program {
    program.quietly(|act| {
        act.me.memory.done = act.db.job.seen_by(&act.newest()).done;
        Flow::Next
    })
}

/// Replays from the checkpoint up to a position with the new logic, and writes the new checkpoint: one transaction.
pub fn replay_into(act: &mut Act<'_>, table: Table, limit: Position, stage: Stage) -> Flow {
    let done = act.me.memory.done;
    let logic = act.read_projection(act.newest()).other_logic;
    let events = act.read_log(done, limit);
    for &event in &events {
        match act.apply(table, event, logic) {
            Flow::Next => {}
            other => return other,
        }
    }
    act.me.memory.limit = 0;
    let name = if table == Table::Live { Target::Live } else { Target::Shadow };
    act.say(|| format!("replays {} up to position {limit} into {name}", positions(&events)));
    act.write_job(stage, done.max(limit))
}

/// Writes the registry's row with the next generation.
pub fn flip(act: &mut Act<'_>, change: impl FnOnce(Projection) -> Projection) {
    let projection = act.read_projection(act.newest());
    act.write_projection(Projection { generation: projection.generation + 1, ..change(projection) });
}

/// Events in words.
pub fn positions(events: &[Event]) -> String {
    match events {
        [] => "nothing".into(),
        [event] => format!("event {}", event.position),
        _ => {
            let all: Vec<_> = events.iter().map(|event| event.position.to_string()).collect();
            format!("events {}", all.join(", "))
        }
    }
}
