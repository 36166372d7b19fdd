//! Which positions are final: the two lemmas of the design.

use crate::error::Result;
use crate::names::Position;
use crate::pg::catalog::Catalog;
use crate::pg::{locks, sequence, snapshot};

/// The highest position that was drawn so far, 0 before the first. Only reads the sequence: it must not lock it.
pub fn last_drawn(catalog: &Catalog) -> Result<Position> {
    Ok(sequence::last_drawn(catalog.positions))
}

/// Lemma B: waits until every position up to the returned one is committed or dead; nobody waits for the caller. The
/// next snapshot sees all of them.
pub fn wait_for_final(catalog: &Catalog) -> Result<Position> {
    let position = last_drawn(catalog)?;
    // nextval's RowExclusiveLock conflicts with Share; it is held to the drawer's end.
    locks::wait_for_holders(&[catalog.positions], locks::Mode::ShareRowExclusive);
    Ok(position)
}

/// As [`wait_for_final`], without waiting: nothing where an open transaction may still fill a position, or where
/// locks and snapshots cannot tell (a transaction that keeps one snapshot, a standby).
pub fn final_now(catalog: &Catalog) -> Result<Option<Position>> {
    if snapshot::keeps_one_snapshot() || snapshot::in_recovery() {
        return Ok(None);
    }
    let position = last_drawn(catalog)?;
    let open = locks::count_holders(catalog.positions, locks::Mode::ShareRowExclusive);
    Ok((open == 0).then_some(position))
}
