//! The moment in which the shadow's storage becomes that of the live tables.

use super::building;
use super::mirroring;
use super::row::{Job, Phase};
use super::shadows;
use crate::error::{Error, Result};
use crate::pg::catalog::Catalog;
use crate::pg::locks::{self, Holders};
use crate::pg::progress::Kind;
use crate::pg::waitpoint::{self, Waitpoint};
use crate::projection::check::{self, Checked};
use crate::projection::registry::{self, Built, Mode, Projection};
use crate::rebuild::gate;
use crate::rebuild::shadow::{self, Shadow};
use crate::rebuild::verify::differences;
use crate::settings;
use pgrx::pg_sys;

/// How an attempt to swap ended.
pub enum Swapped {
    Yes,
    /// The tables could not be had at once.
    NotYet,
    /// An append could not be applied to the shadow.
    MirrorFailed,
}

/// Live tables and their shadows, in the order in which they are locked.
fn tables(catalog: &Catalog, job: &Job) -> Result<Vec<pg_sys::Oid>> {
    let pairs = shadows::pairs(catalog, job.id)?;
    let mut tables: Vec<_> = pairs.into_iter().flat_map(|(live, shadow)| [live, shadow]).collect();
    tables.sort_unstable_by_key(|table| table.to_u32());
    Ok(tables)
}

/// Whoever uses the tables now.
pub fn users(catalog: &Catalog, job: &Job) -> Result<Holders> {
    Ok(Holders::find(&tables(catalog, job)?, locks::Mode::AccessExclusive))
}

/// Takes all the tables, their indexes and toast tables, or nothing. Who uses a part has locked its table before.
fn lock_tables(catalog: &Catalog, job: &Job) -> Result<bool> {
    let mut tables = tables(catalog, job)?;
    tables.extend(shadow::parts(catalog, &tables)?);
    let wanted: Vec<_> = tables
        .into_iter()
        .map(|table| (table, locks::Mode::AccessExclusive, gate::longest_table_wait()))
        .collect();
    locks::lock_together(&wanted)
}

/// Exchanges the storage of live and shadow, and makes the new handler the projection's. The gate stays open: a
/// transaction that has read the model and then appends would wait for it, and this for the transaction.
pub fn swap(catalog: &Catalog, job: &mut Job) -> Result<Swapped> {
    mirroring::lock(catalog, job)?;
    waitpoint::reach(Waitpoint::JobTablesWanted);
    if !lock_tables(catalog, job)? {
        return Ok(Swapped::NotYet);
    }
    waitpoint::reach(Waitpoint::JobTablesLocked);
    // Only now: an append that mirrors holds the tables to its end.
    if job.mirror_has_failed(catalog)? {
        return Ok(Swapped::MirrorFailed);
    }
    let old_handler = registry::find(catalog, &job.projection)?.handler;
    let old_fingerprint = registry::fingerprint(catalog, job.projection_id)?;
    let checked = building::checked(catalog, job)?;
    exchange(catalog, job, &checked.projection)?;
    job.note_attempts(catalog, 1)?;
    let fingerprint = checked.fingerprint();
    let built = Built { events: job.events, duration: job.age(catalog)?, fingerprint };
    registry::bump(catalog, &checked, built)?;
    if job.begin_grace(catalog, (old_handler, &old_fingerprint))? {
        job.enter(catalog, Phase::Grace)?;
        registry::set_mode(catalog, job.projection_id, Mode::Mirroring)?;
    } else {
        job.enter(catalog, Phase::CleaningUp)?;
    }
    waitpoint::reach(Waitpoint::JobSwapped);
    Ok(Swapped::Yes)
}

/// In the grace period, the same back: the caller's transaction makes the old handler the projection's again.
pub fn swap_back(catalog: &Catalog, job: &mut Job, projection: Projection) -> Result<()> {
    let old_handler = projection.mirror.as_ref().map(|mirror| mirror.projection.handler);
    let old_handler = old_handler.ok_or_else(|| Error::damaged("a grace period without an old handler"))?;
    let checked = check::rebuilt_projection(catalog, projection, Some(old_handler))?;
    if job.mirror_has_failed(catalog)? {
        return Err(Error::wrong_state(format!(
            "the old model of projection \"{}\" has not kept up",
            job.projection
        ))
        .detail("Its handler could not take an event: refold.mirror_failure shows which.")
        .hint("Rebuild the projection with the old handler."));
    }
    exchange(catalog, job, &checked.projection)?;
    // If the old handler was replaced since, the model shows as stale.
    let fingerprint = job.old_fingerprint(catalog)?;
    let built = Built { events: job.events, duration: job.age(catalog)?, fingerprint };
    registry::bump(catalog, &checked, built).map(drop)
}

/// The tables, for [`swap_back`]: tried as often as the gate is.
pub fn lock_tables_patiently(catalog: &Catalog, job: &Job) -> Result<()> {
    for attempt in 1..=settings::gate_attempts() {
        locks::wait_for_holders(&tables(catalog, job)?, locks::Mode::AccessExclusive);
        if lock_tables(catalog, job)? {
            return Ok(());
        }
        gate::back_off(attempt);
    }
    let attempts = settings::gate_attempts();
    let error = Error::not_had(format!("the tables could not be locked in {attempts} attempts"));
    Err(gate::naming_holders(error, tables(catalog, job)?.iter())?)
}

fn exchange(catalog: &Catalog, job: &Job, projection: &Projection) -> Result<()> {
    let shadow = Shadow::find(catalog, projection)?.ok_or_else(|| shadows::gone(job))?;
    shadow.swap(catalog, projection, job.definition.as_deref().unwrap_or_default())
}

/// Compares the shadow with a fresh fold of the log; 55000 if they differ. False if an append could not be applied to
/// the shadow.
pub fn verify(catalog: &Catalog, job: &mut Job) -> Result<bool> {
    mirroring::lock(catalog, job)?;
    if job.mirror_has_failed(catalog)? {
        return Ok(false);
    }
    let checked: Checked = building::checked(catalog, job)?;
    let shadow = building::destination(catalog, job, &checked)?;
    let mut differing = 0;
    differences(catalog, &checked, &shadow, Kind::Job, |_| differing += 1)?;
    if job.mirror_has_failed(catalog)? {
        return Ok(false);
    }
    if differing > 0 {
        return Err(Error::wrong_state(format!(
            "the new model of projection \"{}\" differs from a fresh fold of the log",
            job.projection
        ))
        .detail(format!("{differing} rows differ."))
        .hint("A handler must depend on the event and the projection's tables only. Cancel the job and start another."));
    }
    job.enter(catalog, Phase::Swapping)?;
    Ok(true)
}
