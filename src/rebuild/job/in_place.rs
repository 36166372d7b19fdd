//! A rebuild in place: appends skip the projection, the live tables are emptied and replayed into, and the last stretch is
//! replayed under the gate. Readers see a prefix of the log meanwhile, labelled with its position.

use super::building;
use super::mirroring;
use super::row::{Job, Phase};
use crate::error::Result;
use crate::log::watermark;
use crate::pg::catalog::Catalog;
use crate::pg::spi;
use crate::pg::waitpoint::{self, Waitpoint};
use crate::projection::registry::{self, Built, Mode};
use crate::rebuild::gate;

/// From the commit on, appends skip the projection.
pub fn begin(catalog: &Catalog, job: &mut Job) -> Result<()> {
    mirroring::lock(catalog, job)?;
    let checked = building::checked(catalog, job)?;
    let closed = gate::close(catalog, &checked.projection.tables, &mut gate::Patience)?;
    job.note_attempts(catalog, closed.attempts)?;
    job.enter(catalog, Phase::Emptying)?;
    registry::set_mode(catalog, job.projection_id, Mode::Skipping)?;
    waitpoint::reach(Waitpoint::InPlaceSkipping);
    Ok(())
}

/// DELETE, not TRUNCATE: older snapshots go on seeing the old model.
pub fn empty(catalog: &Catalog, job: &mut Job) -> Result<()> {
    mirroring::lock(catalog, job)?;
    let checked = building::checked(catalog, job)?;
    let live = building::destination(catalog, job, &checked)?;
    checked.projection.as_owner(|| {
        for table in live.tables.iter().rev() {
            spi::command(&format!("DELETE FROM ONLY {}", live.of(table)))?;
        }
        Ok(())
    })?;
    waitpoint::reach(Waitpoint::InPlaceEmptied);
    job.enter(catalog, Phase::Building)
}

/// The last stretch, under the gate. Lemma A: what appends have skipped is what is replayed.
pub fn finish(catalog: &Catalog, job: &mut Job) -> Result<()> {
    mirroring::lock(catalog, job)?;
    let checked = building::checked(catalog, job)?;
    let live = building::destination(catalog, job, &checked)?;
    let mut replay = building::replay(catalog, job, &checked, &live);
    let closed = gate::close(catalog, &checked.projection.tables, &mut replay)?;
    waitpoint::reach(Waitpoint::InPlaceGateClosed);
    let drawn = watermark::last_drawn(catalog)?;
    replay.tail(drawn)?;
    let events = replay.events();
    replay.finish();
    job.note_attempts(catalog, closed.attempts)?;
    job.advance(catalog, drawn, events, drawn)?;
    let built = Built { events, duration: job.age(catalog)?, fingerprint: checked.fingerprint() };
    registry::bump(catalog, &checked, built)?;
    job.end(catalog)?;
    waitpoint::reach(Waitpoint::InPlaceReturning);
    Ok(())
}
