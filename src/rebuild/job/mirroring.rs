//! The flips of a concurrent rebuild: appends begin to keep the shadow up, and forget it again. Each happens under a gate
//! that is closed for a moment, whatever the model's size.

use super::building;
use super::row::{Job, Phase};
use super::shadows;
use crate::error::Result;
use crate::log::watermark;
use crate::pg::catalog::Catalog;
use crate::pg::waitpoint::{self, Waitpoint};
use crate::pg::{locks, spi};
use crate::projection::registry::{self, Mode};
use crate::rebuild::gate;

/// From the commit on, every append applies the old handler to the live tables and the new one to the shadow.
pub fn begin(catalog: &Catalog, job: &mut Job) -> Result<()> {
    lock(catalog, job)?;
    let checked = building::checked(catalog, job)?;
    building::require_unaltered(catalog, job, &checked)?;
    let destination = building::destination(catalog, job, &checked)?;
    let mut replay = building::replay(catalog, job, &checked, &destination);
    let closed = gate::close(catalog, &[], &mut replay)?;
    waitpoint::reach(Waitpoint::JobGateClosed);
    // Lemma A: with the gate closed, every position that was drawn is visible or dead, and later ones are mirrored.
    let drawn = watermark::last_drawn(catalog)?;
    replay.tail(drawn)?;
    let events = replay.events();
    replay.finish();
    job.note_attempts(catalog, closed.attempts)?;
    job.advance(catalog, drawn, events, drawn)?;
    job.set_mirror(catalog, job.handler)?;
    job.enter(catalog, Phase::WaitingForSnapshots)?;
    // I3, and I5: a snapshot older than this commit sees another number of flips.
    registry::set_mode(catalog, job.projection_id, Mode::Mirroring)?;
    waitpoint::reach(Waitpoint::JobMirrors);
    Ok(())
}

/// The shadow lacks an event that its handler could not take: appends forget it, and the job begins anew. False if it
/// has paused, as that has happened too often.
pub fn begin_anew(catalog: &Catalog, job: &mut Job) -> Result<bool> {
    lock(catalog, job)?;
    gate::close(catalog, &[], &mut gate::Patience)?;
    registry::set_mode(catalog, job.projection_id, Mode::Active)?;
    job.begin_anew(catalog)
}

/// Empties the shadow, with the gate open: whoever uses it (vacuum) may be waited for. No reader has seen it, and before
/// it is swapped in all older snapshots must end, so TRUNCATE does.
pub fn empty(catalog: &Catalog, job: &mut Job) -> Result<()> {
    lock(catalog, job)?;
    let checked = building::checked(catalog, job)?;
    let destination = building::destination(catalog, job, &checked)?;
    checked.projection.as_owner(|| {
        let tables: Vec<_> = destination.tables.iter().map(|table| destination.of(table)).collect();
        spi::command(&format!("TRUNCATE {}", tables.join(", "))).map(drop)
    })?;
    job.enter(catalog, Phase::Building)
}

/// The end of the grace period: appends forget the old model.
pub fn end(catalog: &Catalog, job: &mut Job) -> Result<()> {
    lock(catalog, job)?;
    gate::close(catalog, &[], &mut gate::Patience)?;
    job.enter(catalog, Phase::CleaningUp)?;
    registry::set_mode(catalog, job.projection_id, Mode::Active)
}

/// The last transaction: the shadow goes.
pub fn clean_up(catalog: &Catalog, job: &mut Job) -> Result<()> {
    lock(catalog, job)?;
    shadows::drop(catalog, job)?;
    waitpoint::reach(Waitpoint::JobShadowDropped);
    job.end(catalog)
}

/// Waits for whoever rebuilds, verifies or drops the projection, or controls its job; then the job must still be the
/// worker's own.
pub fn lock(catalog: &Catalog, job: &Job) -> Result<()> {
    locks::lock_key(locks::Domain::Rebuild, job.projection_id as u64);
    job.require_own(catalog)
}
