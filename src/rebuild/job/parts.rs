//! A fold's replay by several workers: each takes the keys of one part, by their hash, so that no two write one row.
//!
//! The parts are rows of `refold.rebuild_part`, each with a checkpoint of its own; when all have come to the position up
//! to which the replay was split, the job goes on from there as one.

use super::building;
use super::row::Job;
use crate::error::{Error, Result};
use crate::names::Position;
use crate::pg::catalog::Catalog;
use crate::pg::{identity, spi};
use crate::projection::registry::Kind;
use crate::rebuild::merge;
use crate::rebuild::replay::Share;
use pgrx::PgSqlErrorCode;

/// One part of a split replay, and whose it is.
#[derive(Debug, Clone)]
pub struct Part {
    pub share: Share,
    /// The position up to which the replay was split.
    pub up_to: Position,
    pub checkpoint: Position,
    pub events: i64,
    epoch: i64,
}

const LOAD: &str = "SELECT p.part, p.parts, p.up_to, p.checkpoint, p.events, p.epoch FROM refold.rebuild_part AS p \
    WHERE p.job_id = $1";

fn read(rows: &spi::Rows<'_>, row: usize) -> Result<Part> {
    Ok(Part {
        share: Share { part: rows.need(row, 0)?, parts: rows.need(row, 1)? },
        up_to: rows.need(row, 2)?,
        checkpoint: rows.need(row, 3)?,
        events: rows.need(row, 4)?,
        epoch: rows.need(row, 5)?,
    })
}

/// All parts of a job, none if its replay is not split.
pub fn all(catalog: &Catalog, job: i64) -> Result<Vec<Part>> {
    let sql = format!("{LOAD} ORDER BY p.part");
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(&sql, &[spi::arg(job)], spi::Snapshot::Latest, |rows| {
            (0..rows.len()).map(|row| read(rows, row)).collect()
        })
    })
}

/// Whether a part other than the one that has failed at this position may have replayed it already.
pub fn may_have(catalog: &Catalog, job: i64, position: Position) -> Result<bool> {
    const SQL: &str = "SELECT EXISTS (SELECT FROM refold.rebuild_part AS p JOIN refold.rebuild_job AS j USING (job_id) \
        WHERE p.job_id = $1 AND p.checkpoint >= $2 AND j.error_position IS DISTINCT FROM $2)";
    identity::as_refold_pinned(catalog.owner, || {
        let args = [spi::arg(job), spi::arg(position)];
        spi::query_once(SQL, &args, spi::Snapshot::Latest, |rows| rows.need(0, 0))
    })
}

/// Splits the rest of the replay, up to a final position; false where rows cannot be written in any order, or where
/// readers see them meanwhile: a prefix of the log, not one for each part.
pub fn split(catalog: &Catalog, job: &mut Job, up_to: Position, parts: i32) -> Result<bool> {
    const SQL: &str = "INSERT INTO refold.rebuild_part (job_id, part, parts, up_to, checkpoint) \
        SELECT $1, g.part, $2, $3, $4 FROM generate_series(0, $2 - 1) AS g (part)";
    if job.in_place {
        return Ok(false);
    }
    let checked = building::checked(catalog, job)?;
    let destination = building::destination(catalog, job, &checked)?;
    if checked.projection.kind != Kind::Fold || !merge::may_update_all(catalog, &destination)? {
        return Ok(false);
    }
    job.advance(catalog, job.checkpoint, job.events, up_to)?;
    let args = [spi::arg(job.id), spi::arg(parts), spi::arg(up_to), spi::arg(job.checkpoint)];
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &args, spi::Snapshot::Command, |_| Ok(()))
    })?;
    Ok(true)
}

/// Takes a part for this process, in an epoch of its own.
pub fn take(catalog: &Catalog, job: i64, part: i32) -> Result<Option<Part>> {
    const SQL: &str =
        "UPDATE refold.rebuild_part AS p SET epoch = p.epoch + 1 WHERE p.job_id = $1 AND p.part = $2";
    let args = [spi::arg(job), spi::arg(part)];
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &args, spi::Snapshot::Command, |_| Ok(()))
    })?;
    Ok(all(catalog, job)?.into_iter().find(|other| other.share.part == part))
}

/// Replays the part's keys up to `end`. As the job's own batches: committed with its checkpoint, or not at all.
pub fn batch(
    catalog: &Catalog,
    job: &Job,
    part: &mut Part,
    end: Position,
    at_event: &mut bool,
) -> Result<()> {
    let checked = building::checked(catalog, job)?;
    building::require_unaltered(catalog, job, &checked)?;
    let destination = building::destination(catalog, job, &checked)?;
    let mut replay = building::replay(catalog, job, &checked, &destination);
    replay.resume(part.checkpoint, part.events);
    replay.take_share(part.share);
    *at_event = true;
    replay.tail(end)?;
    *at_event = false;
    let events = replay.events();
    replay.finish();
    advance(catalog, job, part, end, events)
}

/// Under a lock on the job's row: whoever stops or cancels the job waits for this commit, or this fails.
fn advance(catalog: &Catalog, job: &Job, part: &mut Part, end: Position, events: i64) -> Result<()> {
    const LOCK: &str =
        "SELECT FROM refold.rebuild_job AS j WHERE j.job_id = $1 AND j.state = 'running' FOR SHARE";
    const SQL: &str = "UPDATE refold.rebuild_part AS p SET checkpoint = $4, events = $5 \
        WHERE p.job_id = $1 AND p.part = $2 AND p.epoch = $3 RETURNING true";
    let args =
        [spi::arg(job.id), spi::arg(part.share.part), spi::arg(part.epoch), spi::arg(end), spi::arg(events)];
    let written = identity::as_refold_pinned(catalog.owner, || {
        let locked = spi::query_once(LOCK, &args[..1], spi::Snapshot::Command, |rows| Ok(rows.len()))?;
        let written = spi::query_once(SQL, &args, spi::Snapshot::Command, |rows| Ok(rows.len()))?;
        Ok(locked.min(written))
    })?;
    if written != 1 {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_OPERATOR_INTERVENTION,
            format!("part {} of rebuild job {} has another owner", part.share.part, job.id),
        ));
    }
    (part.checkpoint, part.events) = (end, events);
    Ok(())
}

/// Makes one replay of the parts again, if all have come to the end.
pub fn join(catalog: &Catalog, job: &mut Job) -> Result<bool> {
    let parts = all(catalog, job.id)?;
    let events: i64 = parts.iter().map(|part| part.events).sum();
    let Some(up_to) = parts.first().map(|part| part.up_to) else { return Ok(true) };
    if parts.iter().any(|part| part.checkpoint < up_to) {
        job.require_own(catalog)?;
        return Ok(false);
    }
    job.advance(catalog, up_to, job.events + events, up_to)?;
    job.forget_parts(catalog)?;
    Ok(true)
}
