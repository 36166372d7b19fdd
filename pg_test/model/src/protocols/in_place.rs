//! refold's rebuild in place: live is emptied and replayed into, appends skip it meanwhile, readers see a prefix of the
//! log that is labelled with its position.

use super::steps::{Fence, flip, gate_or, read_checkpoint, replay_into, take_job, watermark};
use crate::database::{Phase, Projection, Stage, Table};
use crate::program::{Flow, Program};
use crate::session::{Act, Isolation};

/// One part wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The batch goes up to the highest position seen in the log.
    WatermarkByMax,
    /// The last stretch is replayed, and the state flips back, with the gate open.
    LastStretchWithoutGate,
    /// Live is emptied for older snapshots too.
    Truncate,
    /// A worker does not look whether the job is still its own.
    NoEpoch,
}

pub fn rebuild(name: &str, wrong: Option<Wrong>) -> Program {
    let fence = if wrong == Some(Wrong::NoEpoch) { Fence::None } else { Fence::AtWrite };
    let program = take_job(Program::new(name), fence, |stage| match stage {
        Stage::Building => "beginning",
        Stage::Emptying => "emptying",
        Stage::Waiting => "building",
        Stage::Grace | Stage::Finished => "finished",
    });
    let program = gate_or(program.label("beginning"), "beginning")
        .then(begin_skipping)
        .commit_and_invalidate()
        .begin(Isolation::ReadCommitted)
        .label("emptying")
        .then(move |act| empty(act, wrong))
        .commit()
        .begin(Isolation::ReadCommitted)
        .label("building");
    let program = read_checkpoint(program);
    let program = match wrong {
        Some(Wrong::WatermarkByMax) => program.then(|act| {
            let seen = act.read_log(0, u8::MAX);
            let limit = seen.last().map_or(0, |event| event.position);
            replay_into(act, Table::Live, limit, Stage::Waiting)
        }),
        _ => watermark(program).then(|act| {
            let limit = act.me.memory.limit;
            replay_into(act, Table::Live, limit, Stage::Waiting)
        }),
    };
    let program = program.commit().begin(Isolation::ReadCommitted);
    let program = read_checkpoint(program).label("last stretch");
    let program = match wrong {
        Some(Wrong::LastStretchWithoutGate) => program,
        _ => gate_or(program, "last stretch"),
    };
    program.then(end_skipping).commit_and_invalidate().quietly(|_| Flow::End).label("finished").quietly(
        |act| {
            act.abort();
            Flow::End
        },
    )
}

/// Under the gate: from the commit on, appends skip it. The job's position is where the old model ends.
fn begin_skipping(act: &mut Act<'_>) -> Flow {
    let flow = act.write_job(Stage::Emptying, act.db.last_value);
    if flow == Flow::Next {
        flip(act, |projection| Projection { phase: Phase::Skipping, ..projection });
        act.say(|| "sets the state to skipping".into());
    }
    flow
}

fn empty(act: &mut Act<'_>, wrong: Option<Wrong>) -> Flow {
    let flow = act.write_job(Stage::Waiting, 0);
    if flow != Flow::Next {
        return flow;
    }
    if wrong == Some(Wrong::Truncate) {
        // Another storage, which has no row in any snapshot.
        let empty = act.db.heap_of(Table::Shadow);
        act.db.live.write(act.me.xid(), empty);
    } else {
        let rows = act.read_rows(Table::Live).into_keys().map(|key| (key, Vec::new())).collect();
        act.write_rows(Table::Live, rows);
    }
    act.say(|| "empties the live table".into());
    Flow::Next
}

/// Lemma A: what was skipped is what is replayed.
fn end_skipping(act: &mut Act<'_>) -> Flow {
    let limit = act.db.last_value;
    let flow = replay_into(act, Table::Live, limit, Stage::Finished);
    if flow == Flow::Next {
        flip(act, Projection::rebuilt);
        act.say(|| "sets the state to active".into());
    }
    flow
}
