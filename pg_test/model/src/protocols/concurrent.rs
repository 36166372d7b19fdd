//! refold's concurrent rebuild: building, mirroring, waiting for old snapshots, swap, and a grace period if asked for. A
//! worker in many transactions, which starts again where the job's row says.

use super::steps::{Fence, flip, gate_or, read_checkpoint, replay_into, require_own, take_job, watermark};
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
    /// It looks before it replays a batch, and not when it writes the checkpoint.
    EpochReadEarly,
    /// In the grace period appends know of the new model only.
    OldModelNotKeptUp,
}

pub fn rebuild(name: &str, wrong: Option<Wrong>) -> Program {
    worker(name, Stage::Finished, wrong)
}

/// Its old model is kept up after the swap, until the grace period ends, whenever that is.
pub fn rebuild_with_grace(wrong: Option<Wrong>) -> Program {
    worker("the worker", Stage::Grace, wrong)
}

fn worker(name: &str, after_swap: Stage, wrong: Option<Wrong>) -> Program {
    let fence = match wrong {
        Some(Wrong::NoEpoch) => Fence::None,
        Some(Wrong::EpochReadEarly) => Fence::AtRead,
        _ => Fence::AtWrite,
    };
    let program = take_job(Program::new(name), fence, |stage| match stage {
        Stage::Building => "building",
        Stage::Emptying => "emptying",
        Stage::Waiting => "waiting",
        Stage::Grace => "grace",
        Stage::Finished => "finished",
    });
    let program = program.label("building");
    let program = if fence == Fence::AtRead { program.quietly(require_own) } else { program };
    let program = wait_for_snapshots(mirror(build(program), wrong), wrong);
    let program = back_to_building(swap(program, after_swap, wrong), wrong);
    let program = if after_swap == Stage::Grace { end_grace(program) } else { program };
    program.label("finished").quietly(|act| {
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
fn swap(program: Program, after: Stage, wrong: Option<Wrong>) -> Program {
    let program = match wrong {
        Some(Wrong::SwapUnderGate) => gate_or(program.label("swap"), "swap")
            .lock(Target::Live, Mode::AccessExclusive)
            .lock(Target::Shadow, Mode::AccessExclusive),
        Some(Wrong::FailuresReadEarly) => lock_tables(program.then(look_for_failures)),
        _ => lock_tables(program).then(look_for_failures),
    };
    program
        .then(move |act| {
            let flow = act.write_job(after, 0);
            if flow != Flow::Next {
                return flow;
            }
            exchange(act, |projection| match (after, wrong) {
                (Stage::Grace, Some(Wrong::OldModelNotKeptUp)) => projection.swapped(Phase::Active),
                (Stage::Grace, _) => projection.swapped(Phase::Mirroring),
                _ => projection.rebuilt(),
            })
        })
        .commit_and_invalidate()
        .quietly(move |_| if after == Stage::Grace { Flow::To("go on to grace") } else { Flow::End })
}

fn exchange(act: &mut Act<'_>, change: impl FnOnce(Projection) -> Projection) -> Flow {
    let shadow = act.db.heap_of(Table::Shadow);
    act.db.live.write(act.me.xid(), shadow);
    flip(act, change);
    act.say(|| "exchanges the storage of live and shadow".into());
    Flow::Next
}

/// Its time can be over at any moment. Under the gate appends forget the old model.
fn end_grace(program: Program) -> Program {
    let program = program
        .label("go on to grace")
        .begin(Isolation::ReadCommitted)
        .label("grace")
        .lock(Target::Rebuild, Mode::Exclusive)
        .quietly(require_own);
    gate_or(program.label("end of grace"), "end of grace")
        .then(|act| {
            let flow = act.write_job(Stage::Finished, 0);
            if flow == Flow::Next {
                flip(act, |projection| Projection { phase: Phase::Active, ..projection });
                act.say(|| "ends the grace period: sets the state to active".into());
            }
            flow
        })
        .commit_and_invalidate()
        .quietly(|_| Flow::End)
}

/// One part of a rollback wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongRollback {
    /// It does not look whether the old model has taken every event.
    FailuresIgnored,
    /// It exchanges the storage without the tables' locks.
    NoTableLocks,
}

/// The roles exchanged: the old model, which appends have kept up since the swap, becomes the live one again. Nobody is
/// waited for who keeps a snapshot: each is younger than the flip, since when both models have taken every event.
pub fn roll_back(wrong: Option<WrongRollback>) -> Program {
    let program = Program::new("the rollback")
        .may_crash()
        .then(|act| match act.db.job.seen_by(&act.newest()).stage {
            Stage::Grace => Flow::Next,
            Stage::Finished => Flow::End,
            _ => Flow::Wait,
        })
        .begin(Isolation::ReadCommitted)
        .lock(Target::Rebuild, Mode::Exclusive)
        .quietly(|act| match act.db.job.seen_by(&act.newest()).stage {
            Stage::Grace => Flow::Next,
            _ => Flow::To("back"),
        });
    let program = match wrong {
        Some(WrongRollback::NoTableLocks) => program,
        _ => lock_tables(program),
    };
    let program = match wrong {
        Some(WrongRollback::FailuresIgnored) => program,
        _ => program.then(look_for_failures),
    };
    program
        .then(|act| {
            let flow = act.end_job();
            if flow != Flow::Next {
                return flow;
            }
            exchange(act, |projection| projection.swapped(Phase::Active))
        })
        .commit_and_invalidate()
        .quietly(|_| Flow::End)
        .label("back")
        .quietly(|act| {
            act.abort();
            Flow::End
        })
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
