//! What is explored, and what must come of it.

use crate::kernel::Mode::{AccessShare, RowShare};
use crate::program::Program;
use crate::properties::Promise;
use crate::protocols::append::{Append, Wrong, append};
use crate::protocols::concurrent::WrongRollback;
use crate::protocols::published::Variant;
use crate::protocols::reader::reader;
use crate::protocols::{atomic, concurrent, in_place, published};
use crate::world::Instance;

/// A protocol with its instances.
pub struct Case {
    pub name: &'static str,
    pub expected: Expected,
    pub instances: Vec<fn() -> Instance>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Holds,
    Fails,
}

fn holds(name: &'static str, instances: &[fn() -> Instance]) -> Case {
    Case { name, expected: Expected::Holds, instances: instances.to_vec() }
}

fn fails(name: &'static str, instance: fn() -> Instance) -> Case {
    Case { name, expected: Expected::Fails, instances: vec![instance] }
}

/// All of them, in the order of the table.
pub fn all() -> Vec<Case> {
    let groups = [
        published_cases(),
        atomic_cases(),
        concurrent_cases(),
        grace_cases(),
        in_place_cases(),
        without_snapshot_check(),
    ];
    groups.into_iter().flatten().collect()
}

fn published_cases() -> Vec<Case> {
    fn with(variant: Variant, rounds: u8) -> Instance {
        let programs = vec![published::rebuild(variant), published::append('A', 's', 'x', rounds, variant)];
        Instance::new(programs, Promise::After(0))
    }
    vec![
        fails("published protocol", || with(Variant::AsPublished, 1)),
        fails("  a last check after the release", || with(Variant::LastCheck, 1)),
        fails("  a re-check before the commit", || with(Variant::Recheck, 1)),
        fails("  a grace period", || with(Variant::GracePeriod, 1)),
        fails("  a skip record, drained later", || with(Variant::SkipRecord, 2)),
        fails("  a release without the lock", || with(Variant::ReleaseWithoutLock, 1)),
    ]
}

/// Appends to two streams that feed one row.
fn one_row() -> [Append; 2] {
    [append('A', 's', 'x'), append('B', 't', 'x')]
}

/// Appends to two streams that feed a row each.
fn two_rows() -> [Append; 2] {
    [append('A', 's', 'x'), append('B', 't', 'y')]
}

/// Transactions that have locked the live table when they append.
fn lockers() -> [Append; 2] {
    let [a, b] = one_row();
    [a.repeatable_read().after_locking_live(AccessShare), b.after_locking_live(RowShare)]
}

fn wrong(wrong: Wrong) -> [Append; 2] {
    one_row().map(|append| append.wrong(wrong))
}

/// A rebuild among appends. It is the first session: where several shortest interleavings lead to a fault, the one is
/// shown in which the rebuild goes on for as long as it can.
fn among(rebuild: Program, appends: impl IntoIterator<Item = Append>) -> Instance {
    let appends = appends.into_iter().map(Append::program);
    Instance::new([rebuild].into_iter().chain(appends).collect(), Promise::InEverySnapshot)
}

fn atomic_cases() -> Vec<Case> {
    fn rebuild() -> Program {
        atomic::rebuild("the rebuild", None)
    }
    fn broken(part: atomic::Wrong) -> Program {
        atomic::rebuild("the rebuild", Some(part))
    }
    vec![
        holds(
            "refold's atomic rebuild",
            &[
                || among(rebuild(), [append('A', 's', 'x').twice(), append('B', 't', 'x')]),
                || among(rebuild(), [append('A', 's', 'x'), append('B', 't', 'x'), append('C', 's', 'y')]),
                || among(rebuild(), two_rows().map(Append::repeatable_read)).and(reader()),
                || among(rebuild(), lockers()),
                || among(rebuild(), one_row()).and(atomic::rebuild("the second rebuild", None)),
            ],
        ),
        fails("  gate taken after the draw", || among(rebuild(), wrong(Wrong::GateAfterDraw))),
        fails("  state read before the gate", || among(rebuild(), wrong(Wrong::StateBeforeGate))),
        fails("  state read on a snapshot older than the gate", || {
            among(rebuild(), wrong(Wrong::StateOnOlderSnapshot))
        }),
        fails("  state kept in spite of its invalidation", || {
            among(rebuild(), wrong(Wrong::StateKept).map(Append::twice))
        }),
        fails("  fold keys locked after the draw", || among(rebuild(), wrong(Wrong::KeyAfterDraw))),
        fails("  watermark by max(position)", || among(broken(atomic::Wrong::WatermarkByMax), two_rows())),
        fails("  sequence read as one further than it is", || {
            among(broken(atomic::Wrong::SequenceReadTooHigh), two_rows())
        }),
        fails("  merge with the gate open", || among(broken(atomic::Wrong::NoGate), two_rows())),
        fails("  invalidation sent after the locks' release", || {
            among(broken(atomic::Wrong::InvalidatesLast), one_row().map(Append::twice))
        }),
        fails("  live table waited for without a timeout", || {
            among(broken(atomic::Wrong::WaitsUnderGate), [append('A', 's', 'x').after_locking_live(RowShare)])
        }),
    ]
}

fn concurrent_cases() -> Vec<Case> {
    fn rebuild() -> Program {
        concurrent::rebuild("the worker", None)
    }
    fn broken(part: concurrent::Wrong) -> Program {
        concurrent::rebuild("the worker", Some(part))
    }
    vec![
        holds(
            "refold's concurrent rebuild",
            &[
                || among(rebuild(), [append('A', 's', 'x').twice(), append('B', 't', 'x')]),
                || among(rebuild(), one_row()).with_mishap(),
                || {
                    among(rebuild(), [append('A', 's', 'x'), append('B', 't', 'y').repeatable_read()])
                        .and(reader())
                },
                || among(rebuild(), lockers()),
                || {
                    among(rebuild(), [append('A', 's', 'x'), append('B', 't', 'x'), append('C', 's', 'y')])
                        .without_crash()
                },
                || {
                    let second = concurrent::rebuild("the second worker", None);
                    among(rebuild(), [append('A', 's', 'x')]).and(second).without_crash()
                },
            ],
        ),
        fails("  state read before the gate", || among(rebuild(), wrong(Wrong::StateBeforeGate))),
        fails("  state not read again under the tables' locks", || {
            among(rebuild(), wrong(Wrong::StateReadOnce))
        }),
        fails("  flip with the gate open", || among(broken(concurrent::Wrong::FlipWithoutGate), two_rows())),
        fails("  no wait for old snapshots before the swap", || {
            among(broken(concurrent::Wrong::NoWaitForSnapshots), two_rows()).and(reader())
        }),
        fails("  mirror failures read before the tables are locked", || {
            among(broken(concurrent::Wrong::FailuresReadEarly), one_row()).with_mishap()
        }),
        fails("  begun anew without an empty shadow", || {
            among(broken(concurrent::Wrong::ShadowKept), one_row()).with_mishap()
        }),
        fails("  swap under the gate", || {
            among(
                broken(concurrent::Wrong::SwapUnderGate),
                [append('A', 's', 'x').after_locking_live(AccessShare)],
            )
        }),
        fails("  two workers, and no epoch", || {
            among(broken(concurrent::Wrong::NoEpoch), [append('A', 's', 'x')])
                .and(concurrent::rebuild("the second worker", Some(concurrent::Wrong::NoEpoch)))
        }),
        fails("  two workers, epoch read before the batch only", || {
            let second = concurrent::rebuild("the second worker", Some(concurrent::Wrong::EpochReadEarly));
            among(broken(concurrent::Wrong::EpochReadEarly), [append('A', 's', 'x')]).and(second)
        }),
    ]
}

fn grace_cases() -> Vec<Case> {
    fn rebuild() -> Program {
        concurrent::rebuild_with_grace(None)
    }
    fn roll_back() -> Program {
        concurrent::roll_back(None)
    }
    fn broken(part: WrongRollback) -> Program {
        concurrent::roll_back(Some(part))
    }
    vec![
        holds(
            "  with a grace period, and a rollback in it",
            &[
                || among(rebuild(), one_row()).and(roll_back()).without_crash(),
                || among(rebuild(), [append('A', 's', 'x')]).and(roll_back()).with_mishap(),
                || among(rebuild(), [append('A', 's', 'x').repeatable_read()]).and(roll_back()).and(reader()),
                || among(rebuild(), [append('A', 's', 'x').after_locking_live(AccessShare)]).and(roll_back()),
            ],
        ),
        fails("  old model not kept up in the grace period", || {
            let rebuild = concurrent::rebuild_with_grace(Some(concurrent::Wrong::OldModelNotKeptUp));
            among(rebuild, [append('A', 's', 'x')]).and(roll_back())
        }),
        fails("  rollback to an old model that has failed to keep up", || {
            among(rebuild(), [append('A', 's', 'x')])
                .and(broken(WrongRollback::FailuresIgnored))
                .with_mishap()
        }),
        fails("  rollback without the tables' locks", || {
            among(rebuild(), [append('A', 's', 'x')]).and(broken(WrongRollback::NoTableLocks))
        }),
    ]
}

fn in_place_cases() -> Vec<Case> {
    fn rebuild() -> Program {
        in_place::rebuild("the worker", None)
    }
    fn broken(part: in_place::Wrong) -> Program {
        in_place::rebuild("the worker", Some(part))
    }
    vec![
        holds(
            "refold's rebuild in place",
            &[
                || among(rebuild(), [append('A', 's', 'x').twice(), append('B', 't', 'x')]),
                || {
                    among(rebuild(), [append('A', 's', 'x'), append('B', 't', 'y').repeatable_read()])
                        .and(reader())
                },
                || {
                    among(rebuild(), [append('A', 's', 'x'), append('B', 't', 'x'), append('C', 's', 'y')])
                        .without_crash()
                },
                || among(rebuild(), lockers()),
                || {
                    let second = in_place::rebuild("the second worker", None);
                    among(rebuild(), [append('A', 's', 'x')]).and(second).without_crash()
                },
            ],
        ),
        fails("  state read before the gate", || among(rebuild(), wrong(Wrong::StateBeforeGate))),
        fails("  state read on a snapshot older than the gate", || {
            among(rebuild(), wrong(Wrong::StateOnOlderSnapshot))
        }),
        fails("  two workers, and no epoch", || {
            among(broken(in_place::Wrong::NoEpoch), [append('A', 's', 'x')])
                .and(in_place::rebuild("the second worker", Some(in_place::Wrong::NoEpoch)))
        }),
        fails("  watermark by max(position)", || among(broken(in_place::Wrong::WatermarkByMax), two_rows())),
        fails("  last stretch with the gate open", || {
            among(broken(in_place::Wrong::LastStretchWithoutGate), two_rows())
        }),
        fails("  live truncated, not emptied row by row", || {
            among(broken(in_place::Wrong::Truncate), two_rows()).and(reader())
        }),
    ]
}

/// What I5 is for are handlers that read other rows: a fold's own row PostgreSQL itself guards.
fn without_snapshot_check() -> Vec<Case> {
    fn appends() -> [Append; 2] {
        wrong(Wrong::SnapshotNotChecked).map(Append::repeatable_read)
    }
    vec![holds(
        "the three without I5, folds only",
        &[
            || among(atomic::rebuild("the rebuild", None), appends()),
            || among(concurrent::rebuild("the worker", None), appends()).without_crash(),
            || among(in_place::rebuild("the worker", None), appends()).without_crash(),
        ],
    )]
}
