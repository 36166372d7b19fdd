//! What a protocol promises, and how a state breaks it.

use crate::database::{Database, Phase, Position, Row, Table};
use crate::kernel::Snapshot;
use crate::world::{Instance, World};
use std::collections::BTreeMap;

/// What is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// In every snapshot the model equals the fold of the events that the snapshot sees, or, where it is labelled with
    /// a position, of those up to there.
    InEverySnapshot,
    /// The same in new snapshots only, and only once this session has ended: all that the published protocol promises.
    After(usize),
}

/// A promise broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The session whose snapshot shows it; none: a new one.
    pub snapshot_of: Option<usize>,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Lost(Position),
    Twice(Position),
    /// Applied, but not seen in the log, or later than the label says.
    Unseen(Position),
    /// Applied before an earlier one.
    TooEarly(Position),
    /// One model, two logics.
    Mixed,
    /// Nobody can go on.
    Stuck,
}

/// What is wrong in a state, if anything is.
pub fn fault(instance: &Instance, world: &World) -> Option<Fault> {
    let in_snapshots = match instance.promise {
        Promise::InEverySnapshot => in_every_snapshot(&world.db),
        Promise::After(session) if instance.has_ended(&world.sessions[session]) => in_newest(&world.db),
        Promise::After(_) => None,
    };
    in_snapshots
        .or_else(|| instance.is_stuck(world).then_some(Fault { snapshot_of: None, what: What::Stuck }))
}

fn in_newest(db: &Database) -> Option<Fault> {
    compared_in(db, db.newest()).map(|what| Fault { snapshot_of: None, what })
}

fn in_every_snapshot(db: &Database) -> Option<Fault> {
    let in_kept = |(session, kept): (usize, &Option<Snapshot>)| {
        let what = compared_in(db, kept.as_ref()?.of_others())?;
        Some(Fault { snapshot_of: Some(session), what })
    };
    in_newest(db).or_else(|| db.kept.iter().enumerate().find_map(in_kept))
}

/// Compares the model with the fold of the log, as one snapshot sees both. Which storage is the model's is no matter of
/// snapshots: whoever reads a table has locked it, and finds the newest.
fn compared_in(db: &Database, snapshot: Snapshot) -> Option<What> {
    let up_to = match db.projection.seen_by(&snapshot).phase {
        Phase::Skipping => db.job.seen_by(&snapshot).done,
        _ => Position::MAX,
    };
    let heap = &db.heaps[db.heap_of(Table::Live)];
    let rows: BTreeMap<_, _> = heap.iter().map(|(&key, row)| (key, row.seen_by(&snapshot))).collect();
    let difference = rows.iter().find_map(|(&key, row)| {
        let events = db.events_seen_by(snapshot).filter(|event| event.key == key && event.position <= up_to);
        compared(row, &events.map(|event| event.position).collect::<Vec<_>>())
    });
    let mut logics = rows.values().flat_map(|row| row.iter()).map(|applied| applied.logic);
    let first = logics.next();
    difference.or_else(|| logics.any(|logic| Some(logic) != first).then_some(What::Mixed))
}

/// How one row differs from the fold of its events, which are in the log's order.
fn compared(row: &Row, events: &[Position]) -> Option<What> {
    let applied: Vec<_> = row.iter().map(|applied| applied.position).collect();
    let again = |&(index, position): &(usize, &Position)| applied[..index].contains(position);
    if let Some((_, &position)) = applied.iter().enumerate().find(again) {
        return Some(What::Twice(position));
    }
    if let Some(&position) = events.iter().find(|position| !applied.contains(position)) {
        return Some(What::Lost(position));
    }
    if let Some(&position) = applied.iter().find(|position| !events.contains(position)) {
        return Some(What::Unseen(position));
    }
    applied.windows(2).find(|pair| pair[0] > pair[1]).map(|pair| What::TooEarly(pair[0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Applied;

    fn row(positions: &[Position]) -> Row {
        positions.iter().map(|&position| Applied { position, logic: 0 }).collect()
    }

    #[test]
    fn tells_how_a_row_differs() {
        assert_eq!(compared(&row(&[1, 3]), &[1, 3]), None);
        assert_eq!(compared(&row(&[1]), &[1, 3]), Some(What::Lost(3)));
        assert_eq!(compared(&row(&[1, 3, 1]), &[1, 3]), Some(What::Twice(1)));
        assert_eq!(compared(&row(&[1, 2]), &[1]), Some(What::Unseen(2)));
        assert_eq!(compared(&row(&[3, 1]), &[1, 3]), Some(What::TooEarly(3)));
    }
}
