//! refold's atomic rebuild: one transaction, a copy that only it sees, the cut-over under the gate.

use super::steps::{flip, positions, read_last_drawn, watermark};
use crate::database::{Applied, Projection, Row, Table};
use crate::kernel::{Mode, Target};
use crate::program::{Flow, Program};
use crate::session::{Act, Isolation};
use std::collections::BTreeMap;

/// One part wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The first watermark is the highest position seen in the log.
    WatermarkByMax,
    /// The sequence is read as one further than it is: `last_value` before the first draw, or in the midst of one.
    SequenceReadTooHigh,
    /// The last replay and the merge happen with the gate open.
    NoGate,
    /// With the gate closed, it waits for the live table, however long.
    WaitsUnderGate,
    /// As if PostgreSQL told the other backends of a change only when its locks are released.
    InvalidatesLast,
}

pub fn rebuild(name: &str, wrong: Option<Wrong>) -> Program {
    let program = Program::new(name).may_crash().begin(Isolation::ReadCommitted).then(lock_projection);
    let program = match wrong {
        Some(Wrong::WatermarkByMax) => program.then(replay_all_seen),
        Some(Wrong::SequenceReadTooHigh) => watermark(program)
            .quietly(|act| {
                act.me.memory.limit += 1;
                Flow::Next
            })
            .then(replay),
        // Lemma B: what is replayed is final.
        _ => watermark(program).then(replay),
    };
    let program = match wrong {
        Some(Wrong::NoGate) => program,
        Some(Wrong::WaitsUnderGate) => {
            program.lock(Target::Gate, Mode::ShareRowExclusive).lock(Target::Live, Mode::Exclusive)
        }
        _ => close_gate(program),
    };
    let program = program.then(replay_rest).then(merge);
    match wrong {
        Some(Wrong::InvalidatesLast) => program.publish().release_locks().invalidate(),
        _ => program.commit_and_invalidate(),
    }
}

/// 55006 if another rebuild is at it.
fn lock_projection(act: &mut Act<'_>) -> Flow {
    if act.try_lock(Target::Rebuild, Mode::Exclusive) && act.try_lock(Target::Live, Mode::AccessShare) {
        act.say(|| "locks the projection against other rebuilds, and makes an empty copy".into());
        Flow::Next
    } else {
        Flow::Fail("the projection is being rebuilt (55006)")
    }
}

/// Politely, then for a moment; gate and live table together, or neither and again.
fn close_gate(program: Program) -> Program {
    program
        .label("again")
        .wait_for_holders(Target::Live, Mode::Exclusive)
        .then(|act| {
            read_last_drawn(act);
            act.note_holders(Target::Gate, Mode::ShareRowExclusive)
        })
        .await_noted()
        // Whoever had drawn held the gate, so this is final too.
        .then(replay)
        .lock_or(Target::Gate, Mode::ShareRowExclusive, "again")
        .lock_or(Target::Live, Mode::Exclusive, "open")
        .quietly(|_| Flow::To("closed"))
        .label("open")
        .then(|act| {
            act.unlock(Target::Gate, Mode::ShareRowExclusive);
            act.say(|| "opens the gate again".into());
            Flow::To("again")
        })
        .label("closed")
}

fn replay(act: &mut Act<'_>) -> Flow {
    let (done, limit) = (act.me.memory.done, act.me.memory.limit);
    act.me.memory.limit = 0;
    replay_up_to(act, done, limit)
}

/// Lemma A: with the gate closed, every position drawn is visible or dead.
fn replay_rest(act: &mut Act<'_>) -> Flow {
    let (done, limit) = (act.me.memory.done, act.db.last_value);
    replay_up_to(act, done, limit)
}

fn replay_all_seen(act: &mut Act<'_>) -> Flow {
    let seen = act.read_log(0, u8::MAX);
    replay_up_to(act, 0, seen.last().map_or(0, |event| event.position))
}

fn replay_up_to(act: &mut Act<'_>, done: u8, limit: u8) -> Flow {
    let logic = act.read_projection(act.newest()).logic + 1;
    let events = act.read_log(done, limit);
    for event in &events {
        let row = act.me.memory.copy.entry(event.key).or_default();
        row.push(Applied { position: event.position, logic });
    }
    act.me.memory.done = done.max(limit);
    act.say(|| format!("replays {} up to position {limit} into its copy", positions(&events)));
    Flow::Next
}

/// Makes live equal to the copy, and flips the registry: nobody sees it before the commit.
fn merge(act: &mut Act<'_>) -> Flow {
    let copy = std::mem::take(&mut act.me.memory.copy);
    let rows: BTreeMap<char, Row> = act
        .read_rows(Table::Live)
        .into_keys()
        .map(|key| {
            let row = copy.get(&key).cloned().unwrap_or_default();
            (key, row)
        })
        .collect();
    act.write_rows(Table::Live, rows);
    flip(act, Projection::rebuilt);
    act.say(|| "merges its copy into the live table, and writes the new generation".into());
    Flow::Next
}
