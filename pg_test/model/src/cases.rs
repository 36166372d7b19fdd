//! What is explored, and what must come of it.

use crate::kernel::Mode;
use crate::program::Program;
use crate::properties::Promise;
use crate::protocols::append::{Append, Wrong, append};
use crate::protocols::published::Variant;
use crate::protocols::reader::reader;
use crate::protocols::{atomic, published};
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
    /// In at least its first instance.
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
    [published(), atomic()].into_iter().flatten().collect()
}

fn published() -> Vec<Case> {
    fn once(variant: Variant) -> Instance {
        let programs = vec![published::rebuild(variant), published::append('A', 's', 'x', 1, variant)];
        Instance::new(programs, &['x'], Promise::After(0))
    }
    fn twice(variant: Variant) -> Instance {
        let programs = vec![published::rebuild(variant), published::append('A', 's', 'x', 2, variant)];
        Instance::new(programs, &['x'], Promise::After(0))
    }
    vec![
        fails("published protocol", || once(Variant::AsPublished)),
        fails("  a last check after the release", || once(Variant::LastCheck)),
        fails("  a re-check before the commit", || once(Variant::Recheck)),
        fails("  a grace period", || once(Variant::GracePeriod)),
        fails("  a skip record, drained later", || twice(Variant::SkipRecord)),
        fails("  a release without the lock", || once(Variant::ReleaseWithoutLock)),
    ]
}

fn wrong(wrong: Wrong) -> [Append; 2] {
    [append('A', 's', 'x').wrong(Some(wrong)), append('B', 't', 'x').wrong(Some(wrong))]
}

fn with_atomic_programs(appends: &[Append], broken: Option<atomic::Wrong>) -> Vec<Program> {
    let mut programs = vec![atomic::rebuild("the rebuild", broken)];
    programs.extend(appends.iter().map(|append| append.program()));
    programs
}

fn with_atomic(appends: &[Append], broken: Option<atomic::Wrong>) -> Instance {
    checked(with_atomic_programs(appends, broken))
}

fn with_reader(mut programs: Vec<Program>) -> Instance {
    programs.push(reader());
    checked(programs)
}

fn checked(programs: Vec<Program>) -> Instance {
    Instance::new(programs, &['x', 'y'], Promise::InEverySnapshot)
}

fn atomic() -> Vec<Case> {
    vec![
        holds(
            "refold's atomic rebuild",
            &[
                || with_atomic(&[append('A', 's', 'x').twice(), append('B', 't', 'x')], None),
                || with_atomic(&[append('A', 's', 'x'), append('B', 't', 'x'), append('C', 's', 'y')], None),
                || {
                    with_reader(with_atomic_programs(
                        &[append('A', 's', 'x'), append('B', 't', 'y').repeatable_read()],
                        None,
                    ))
                },
                || {
                    let reads = append('A', 's', 'x').repeatable_read().after_locking_live(Mode::AccessShare);
                    let locks = append('B', 't', 'x').after_locking_live(Mode::RowShare);
                    with_atomic(&[reads, locks], None)
                },
                || {
                    let mut programs =
                        with_atomic_programs(&[append('A', 's', 'x'), append('B', 't', 'x')], None);
                    programs.push(atomic::rebuild("the second rebuild", None));
                    checked(programs)
                },
            ],
        ),
        fails("  gate taken after the draw", || with_atomic(&wrong(Wrong::GateAfterDraw), None)),
        fails("  state read before the gate", || with_atomic(&wrong(Wrong::StateBeforeGate), None)),
        fails("  state read on a snapshot older than the gate", || {
            with_atomic(&wrong(Wrong::StateOnOlderSnapshot), None)
        }),
        fails("  state kept in spite of its invalidation", || {
            with_atomic(&wrong(Wrong::StateKept).map(Append::twice), None)
        }),
        fails("  fold keys locked after the draw", || with_atomic(&wrong(Wrong::KeyAfterDraw), None)),
        fails("  watermark by max(position)", || {
            with_atomic(&[append('A', 's', 'x'), append('B', 't', 'y')], Some(atomic::Wrong::WatermarkByMax))
        }),
        fails("  merge with the gate open", || {
            with_atomic(&[append('A', 's', 'x'), append('B', 't', 'y')], Some(atomic::Wrong::NoGate))
        }),
        fails("  live table waited for under the gate", || {
            let locker = append('A', 's', 'x').after_locking_live(Mode::RowShare);
            with_atomic(&[locker], Some(atomic::Wrong::WaitsUnderGate))
        }),
    ]
}
