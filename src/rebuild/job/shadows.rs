//! Which hidden tables a job fills, as `refold.shadow_table` has them.

use super::row::{Job, Phase};
use super::{building, mirroring};
use crate::error::{Error, Result};
use crate::pg::catalog::Catalog;
use crate::pg::waitpoint::{self, Waitpoint};
use crate::pg::{identity, locks, spi};
use crate::projection::registry::Projection;
use crate::rebuild::shadow::{self, Shadow};
use pgrx::pg_sys;

/// The job's first transaction: makes the shadow, empty.
pub fn create(catalog: &Catalog, job: &mut Job) -> Result<()> {
    mirroring::lock(catalog, job)?;
    let checked = building::checked(catalog, job)?;
    let shadow = Shadow::create(catalog, &checked.projection)?;
    record(catalog, job, &checked.projection, &shadow.tables)?;
    let definition = shadow::fingerprint(catalog, &checked.projection)?;
    job.set_definition(catalog, definition)?;
    waitpoint::reach(Waitpoint::JobShadowCreated);
    job.enter(catalog, Phase::Building)
}

fn record(catalog: &Catalog, job: &Job, projection: &Projection, shadows: &[pg_sys::Oid]) -> Result<()> {
    const SQL: &str = "INSERT INTO refold.shadow_table (job_id, ordinal, live, shadow) \
        SELECT $1, t.ordinal, t.live, t.shadow FROM ROWS FROM (unnest($2), unnest($3)) WITH ORDINALITY \
          AS t (live, shadow, ordinal)";
    let args = [spi::arg(job.id), spi::arg(projection.tables.clone()), spi::arg(shadows.to_vec())];
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &args, spi::Snapshot::Command, |_| Ok(()))
    })
}

/// Live table and shadow, in the order of the projection's tables.
pub fn pairs(catalog: &Catalog, job: i64) -> Result<Vec<(pg_sys::Oid, pg_sys::Oid)>> {
    const SQL: &str =
        "SELECT t.live, t.shadow FROM refold.shadow_table AS t WHERE t.job_id = $1 ORDER BY t.ordinal";
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[spi::arg(job)], spi::Snapshot::Latest, |rows| {
            (0..rows.len()).map(|row| Ok((rows.need(row, 0)?, rows.need(row, 1)?))).collect()
        })
    })
}

/// The schema of the job's shadows, quoted. 55000 if somebody has dropped them.
pub fn schema_of(catalog: &Catalog, job: &Job) -> Result<String> {
    const SQL: &str = "SELECT quote_ident(n.nspname), \
        (SELECT count(*) FROM refold.shadow_table AS o JOIN pg_class AS k ON k.oid = o.shadow WHERE o.job_id = $1) = \
          (SELECT count(*) FROM refold.shadow_table AS o WHERE o.job_id = $1) \
        FROM refold.shadow_table AS t JOIN pg_class AS c ON c.oid = t.shadow \
        JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE t.job_id = $1 AND t.ordinal = 1";
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[spi::arg(job.id)], spi::Snapshot::Latest, |rows| {
            if rows.len() == 1 && rows.need(0, 1)? {
                return rows.need(0, 0);
            }
            Err(gone(job))
        })
    })
}

/// 55000: the shadow was dropped or renamed.
pub fn gone(job: &Job) -> Error {
    Error::wrong_state(format!("the hidden tables of rebuild job {} are gone", job.id))
        .hint("Cancel the job with refold.cancel_rebuild and start another.")
}

/// The shadows and all that belongs to them, in the order in which they are locked.
pub fn all_parts(catalog: &Catalog, job: &Job) -> Result<Vec<pg_sys::Oid>> {
    let mut shadows: Vec<_> = pairs(catalog, job.id)?.into_iter().map(|(_, shadow)| shadow).collect();
    shadows.sort_unstable_by_key(|shadow| shadow.to_u32());
    let parts = shadow::parts(catalog, &shadows)?;
    shadows.extend(parts);
    Ok(shadows)
}

/// Removes the shadows and forgets them. An append that is late may still hold some of them: locked in its order.
pub fn drop(catalog: &Catalog, job: &Job) -> Result<()> {
    const SQL: &str = "DELETE FROM refold.shadow_table AS t WHERE t.job_id = $1";
    for shadow in all_parts(catalog, job)? {
        locks::lock_relation(shadow, locks::Mode::AccessExclusive);
    }
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[spi::arg(job.id)], spi::Snapshot::Command, |_| Ok(()))
    })?;
    shadow::remove(catalog, job.projection_id)
}
