//! refold's concurrent rebuild: building, mirroring, waiting for old snapshots, swap. A worker in many transactions,
//! which starts again where the job's row says.

use super::steps::{flip, gate_or, read_checkpoint, replay_into, take_job, watermark};
use crate::database::{Phase, Projection, Stage, Table};
use crate::kernel::{Mode, Snapshot, Target};
use crate::program::{Flow, Program};
use crate::session::{Act, Isolation};

/// One part wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The state flips to mirroring with the gate open.
    FlipWithoutGate,
    /// The swap does not wait for snapshots older than the flip.
    NoWaitForSnapshots,
    /// Whether mirroring has failed is looked at before the tables are locked.
    FailuresReadEarly,
    /// The swap takes the gate first, and waits for the tables with it closed.
    SwapUnderGate,
    /// After a failure the job begins anew with the shadow as it is.
    ShadowKept,
    /// A worker does not look whether the job is still its own.
    NoEpoch,
}

pub fn rebuild(name: &str, wrong: Option<Wrong>) -> Program {
    let program = take_job(Program::new(name), |stage| match stage {
        Stage::Building => "building",
        Stage::Emptying => "emptying",
        Stage::Waiting => "waiting",
        Stage::Finished => "finished",
    });
    let program = match wrong {
        Some(Wrong::NoEpoch) => program.label("building").quietly(|act| {
            act.me.epoch = None;
            Flow::Next
        }),
        _ => program.label("building"),
    };
    let program = wait_for_snapshots(mirror(build(program), wrong), wrong);
    back_to_building(swap(program, wrong), wrong).label("finished").quietly(|act| {
        act.abort();
        Flow::End
    })
}

/// One batch, with its checkpoint.
fn build(program: Program) -> Program {
    watermark(read_checkpoint(program))
        .then(|act| {
            let limit = act.me.memory.limit;
            replay_into(act, Table::Shadow, limit, Stage::Building)
        })
        .commit()
        .begin(Isolation::ReadCommitted)
}

/// A short gate: the tail, and the flip. Every later append maintains both models.
fn mirror(program: Program, wrong: Option<Wrong>) -> Program {
    let program = read_checkpoint(program).label("flip");
    let program = if wrong == Some(Wrong::FlipWithoutGate) { program } else { gate_or(program, "flip") };
    program
        .then(|act| {
            // Lemma A.
            let limit = act.db.last_value;
            let flow = replay_into(act, Table::Shadow, limit, Stage::Waiting);
            if flow == Flow::Next {
                flip(act, |projection| Projection { phase: Phase::Mirroring, ..projection });
                act.say(|| "sets the state to mirroring".into());
            }
            flow
        })
        .commit_and_invalidate()
        .begin(Isolation::ReadCommitted)
}

fn wait_for_snapshots(program: Program, wrong: Option<Wrong>) -> Program {
    let program = program.label("waiting");
    if wrong == Some(Wrong::NoWaitForSnapshots) {
        return program;
    }
    program.then(note_old_snapshots).await_noted()
}

fn note_old_snapshots(act: &mut Act<'_>) -> Flow {
    let now = act.read_projection(act.newest());
    let kept = act.db.kept.iter().flatten().filter(|kept| act.read_projection(**kept) != now);
    let owners = kept.filter_map(Snapshot::owner).collect();
    act.note(owners, || "keeps a snapshot older than the flip".into())
}

/// A short lock on both tables, and not the gate; then the heaps change places.
fn swap(program: Program, wrong: Option<Wrong>) -> Program {
    let program = match wrong {
        Some(Wrong::SwapUnderGate) => gate_or(program.label("swap"), "swap")
            .lock(Target::Live, Mode::AccessExclusive)
            .lock(Target::Shadow, Mode::AccessExclusive),
        Some(Wrong::FailuresReadEarly) => lock_tables(program.then(look_for_failures)),
        _ => lock_tables(program).then(look_for_failures),
    };
    program
        .then(|act| {
            let flow = act.write_job(Stage::Finished, 0);
            if flow != Flow::Next {
                return flow;
            }
            let shadow = act.db.heap_of(Table::Shadow);
            act.db.live.write(act.me.xid(), shadow);
            flip(act, |Projection { logic, generation, .. }| Projection {
                phase: Phase::Active,
                logic: logic + 1,
                generation,
            });
            act.say(|| "exchanges the storage of live and shadow".into());
            Flow::Next
        })
        .commit_and_invalidate()
        .quietly(|_| Flow::End)
}

/// Both, or neither and again.
fn lock_tables(program: Program) -> Program {
    program
        .label("swap")
        .wait_for_holders(Target::Live, Mode::AccessExclusive)
        .lock_or(Target::Live, Mode::AccessExclusive, "swap")
        .then(|act| {
            if act.try_lock(Target::Shadow, Mode::AccessExclusive) {
                act.say(|| "takes AccessExclusive on the shadow, at once".into());
                return Flow::Next;
            }
            act.unlock(Target::Live, Mode::AccessExclusive);
            act.say(|| "cannot have the shadow at once: gives the live table back".into());
            Flow::To("swap")
        })
}

fn look_for_failures(act: &mut Act<'_>) -> Flow {
    let newest = act.newest();
    let now = act.read_projection(newest).generation;
    let failures = &act.db.mirror_failures;
    let failed = failures.iter().any(|(generation, xid)| *generation == now && newest.sees(*xid));
    act.say(|| match failed {
        true => "finds that mirroring has failed: no swap".into(),
        false => "finds that no mirroring has failed".into(),
    });
    if !failed {
        return Flow::Next;
    }
    act.unlock(Target::Live, Mode::AccessExclusive);
    act.unlock(Target::Shadow, Mode::AccessExclusive);
    Flow::To("back")
}

/// Under the gate, mirroring ends. Then, with the gate open, the shadow is emptied, and the job begins anew.
fn back_to_building(program: Program, wrong: Option<Wrong>) -> Program {
    gate_or(program.label("back"), "back")
        .then(|act| {
            let flow = act.write_job(Stage::Emptying, 0);
            if flow != Flow::Next {
                return flow;
            }
            flip(act, |projection| Projection { phase: Phase::Active, ..projection });
            act.say(|| "sets the state back to active".into());
            Flow::Next
        })
        .commit_and_invalidate()
        .begin(Isolation::ReadCommitted)
        .label("emptying")
        .then(move |act| {
            let flow = act.write_job(Stage::Building, 0);
            if flow != Flow::Next {
                return flow;
            }
            if wrong != Some(Wrong::ShadowKept) {
                let empty = act.read_rows(Table::Shadow).into_keys().map(|key| (key, Vec::new())).collect();
                act.write_rows(Table::Shadow, empty);
                act.say(|| "empties the shadow".into());
            }
            Flow::Next
        })
        .commit()
        .begin(Isolation::ReadCommitted)
        .quietly(|_| Flow::To("building"))
}
