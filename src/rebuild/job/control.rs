//! Starting, pausing, resuming, cancelling and ending jobs, by their projection's name.
//!
//! Whoever controls a job takes the projection's rebuild lock first, then what its tables and the gate need, and the
//! job's row last, as its worker does: neither ever waits for the other in a circle.

use super::row::{self, Job, Phase, Request};
use super::{mirroring, parts, shadows, swapping};
use crate::error::{Error, Result};
use crate::names::Position;
use crate::pg::background::{self, Started};
use crate::pg::catalog::Catalog;
use crate::pg::{call, identity, interval, locks, spi};
use crate::projection::registry::{self, Mode, Projection};
use crate::projection::{check, installation};
use crate::rebuild::swappable::require_swappable;
use crate::rebuild::{gate, lock_projection};
use pgrx::{PgSqlErrorCode, pg_sys};

/// Writes a job and asks for its worker, which begins when this transaction has committed.
pub fn start(
    catalog: &Catalog,
    name: &str,
    handler: Option<pg_sys::Oid>,
    request: Request,
) -> Result<(i64, Started)> {
    let projection = lock_projection(catalog, name)?;
    require_none(catalog, &projection)?;
    let (id, mode, old_handler) = (projection.id, projection.mode, projection.handler);
    // Live tables that are incomplete anyway are filled where they are.
    let request = Request { in_place: request.in_place || mode == Mode::Skipping, ..request };
    let checked = check::rebuilt_projection(catalog, projection, handler)?;
    if !request.in_place {
        checked.projection.tables.iter().try_for_each(|&table| require_swappable(catalog, table))?;
    }
    if interval::is_positive(request.grace) {
        require_grace_makes_sense(&request, old_handler, checked.handler.oid)?;
    }
    let owner = checked.projection.owner;
    let job = row::insert(catalog, id, owner, checked.handler.oid, &checked.fingerprint(), &request)?;
    Ok((job, start_worker(name, id, job)?))
}

fn require_grace_makes_sense(request: &Request, old: pg_sys::Oid, new: pg_sys::Oid) -> Result<()> {
    if request.in_place {
        return Err(Error::bad_value("a rebuild in place has no grace period")
            .detail("The old model is not kept.")
            .hint("Leave in_place or grace out."));
    }
    if old == new {
        return Err(Error::bad_value("a grace period needs another handler")
            .detail("The old model is kept up by the old handler, which must still be there.")
            .hint("Create the new handler as a function of another name, and name it."));
    }
    Ok(())
}

/// Asks for a worker of a job. It waits for the projection's rebuild lock, which whoever has just written the job holds.
pub fn start_worker(name: &str, projection: i32, job: i64) -> Result<Started> {
    background::start(
        &format!("refold rebuild job {job} of {name}"),
        "refold_job_worker",
        &[job, projection.into()],
    )
}

/// Waits for the projection's rebuild lock.
fn lock_named(catalog: &Catalog, name: &str) -> Result<Projection> {
    loop {
        let found = registry::find(catalog, name)?;
        locks::lock_key(locks::Domain::Rebuild, found.id as u64);
        // Another of the same name may have taken its place before the lock was had.
        let locked = registry::find(catalog, name)?;
        if locked.id == found.id {
            return Ok(locked);
        }
    }
}

/// The projection and its open job, under the projection's rebuild lock; 55000 if there is none.
fn lock_job(catalog: &Catalog, name: &str) -> Result<(Projection, Job)> {
    let projection = lock_named(catalog, name)?;
    match row::of_projection(catalog, projection.id)? {
        Some(job) => Ok((projection, job)),
        None => Err(no_job(name)),
    }
}

fn no_job(name: &str) -> Error {
    Error::wrong_state(format!("projection \"{name}\" has no rebuild job"))
        .hint("The view refold.rebuild_jobs shows the jobs.")
}

/// Stops the job where it is: whatever its worker has begun will not be committed.
pub fn pause(catalog: &Catalog, name: &str) -> Result<()> {
    let projection = registry::find(catalog, name)?;
    let mut job = row::of_projection(catalog, projection.id)?.ok_or_else(|| no_job(name))?;
    job.take_over(catalog, "paused")
}

/// Lets a worker go on. The handler's definition is from now on what it is now.
pub fn resume(catalog: &Catalog, name: &str) -> Result<(i64, Started)> {
    let (projection, mut job) = lock_job(catalog, name)?;
    let id = projection.id;
    let checked = check::rebuilt_projection(catalog, projection, Some(job.handler))?;
    job.run_again(catalog, &checked.fingerprint())?;
    Ok((job.id, start_worker(name, id, job.id)?))
}

/// Ends the job (that one, if it is given) and removes what it has built. Live tables that it was filling stay
/// incomplete.
pub fn cancel(catalog: &Catalog, name: &str, only: Option<i64>) -> Result<()> {
    end_worker(catalog, name)?;
    let (projection, mut job) = lock_job(catalog, name)?;
    if only.is_some_and(|only| only != job.id) {
        return Ok(());
    }
    if matches!(job.phase, Phase::Grace | Phase::CleaningUp) {
        return Err(Error::wrong_state(format!("the new model of projection \"{name}\" is live already"))
            .hint("Use refold.finish_rebuild to keep it, or refold.rollback_projection to go back to the old one."));
    }
    forget(catalog, &projection, &mut job, "cancelled")?;
    if projection.mode == Mode::Skipping {
        call::warn(
            &format!("the model of projection \"{name}\" is incomplete"),
            "Its live tables hold a prefix of the log, and appends leave them alone.",
            "Rebuild it with refold.rebuild_projection or refold.start_rebuild.",
        );
    }
    Ok(())
}

/// Ends the worker of a job that has not got its new model yet: it may hold the rebuild lock for as long as it waits
/// for an append. If the caller's transaction rolls back, the job can be resumed.
fn end_worker(catalog: &Catalog, name: &str) -> Result<()> {
    const SQL: &str = "SELECT pg_terminate_backend($1)";
    let projection = registry::find(catalog, name)?;
    let Some(job) = row::of_projection(catalog, projection.id)? else { return Ok(()) };
    let Some(worker) = locks::key_holder(locks::Domain::Job, job.id as u64)? else { return Ok(()) };
    if matches!(job.phase, Phase::Grace | Phase::CleaningUp) {
        return Ok(());
    }
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[spi::arg(worker)], spi::Snapshot::Latest, |_| Ok(()))
    })
}

/// Ends the grace period: the new model stays.
pub fn finish(catalog: &Catalog, name: &str) -> Result<()> {
    let (projection, mut job) = lock_job(catalog, name)?;
    require_grace(&job)?;
    forget(catalog, &projection, &mut job, "done")
}

fn require_grace(job: &Job) -> Result<()> {
    if job.phase == Phase::Grace {
        return Ok(());
    }
    Err(Error::wrong_state(format!(
        "the rebuild of projection \"{}\" is not in its grace period",
        job.projection
    ))
    .detail(format!("It is {}.", job.phase.as_str())))
}

/// Makes appends forget the shadow, if they know it, and removes it.
fn forget(catalog: &Catalog, projection: &Projection, job: &mut Job, state: &str) -> Result<()> {
    if projection.mode == Mode::Mirroring {
        // Together with the gate, or not at all: while that is closed nobody is waited for, vacuum for one.
        gate::close_with(catalog, &shadows::all_parts(catalog, job)?, &mut gate::Patience)?;
        registry::set_mode(catalog, projection.id, Mode::Active)?;
        gate::limit_idling()?;
    }
    // Before the job's row: a worker that is at a batch holds the shadow, and then waits for the row.
    if !job.in_place {
        shadows::drop(catalog, job)?;
    }
    job.take_over(catalog, state)
}

/// In the grace period: the old model becomes the live one again.
pub fn roll_back(catalog: &Catalog, name: &str) -> Result<()> {
    let (_, mut job) = lock_job(catalog, name)?;
    require_grace(&job)?;
    gate::require_no_append(catalog)?;
    swapping::lock_tables_patiently(catalog, &job)?;
    gate::limit_idling()?;
    let projection = registry::find(catalog, name)?;
    swapping::swap_back(catalog, &mut job, projection)?;
    shadows::drop(catalog, &job)?;
    job.take_over(catalog, "cancelled")
}

/// Leaves an event out of a projection for good.
pub fn skip_event(catalog: &Catalog, name: &str, position: Position, reason: &str) -> Result<()> {
    const SQL: &str = "INSERT INTO refold.skipped_event (projection_id, position, reason) \
        SELECT $1, e.position, $3 FROM refold.event AS e WHERE e.position = $2 \
        ON CONFLICT (projection_id, position) DO UPDATE SET reason = excluded.reason RETURNING true";
    let projection = lock_named(catalog, name)?;
    if !identity::has_rights_of(projection.owner) {
        return Err(Error::not_allowed(format!("must be owner of projection \"{name}\"")));
    }
    if let Some(job) = row::of_projection(catalog, projection.id)?
        && (job.running
            || position <= job.checkpoint
            || parts::may_have(catalog, job.id, position)?
            || !matches!(job.phase, Phase::Preparing | Phase::Emptying | Phase::Building))
    {
        let (why, hint) = match (job.running, job.phase) {
            (true, _) => ("The job is running.".to_owned(), "Pause or cancel the job first."),
            (false, Phase::Building) => (
                format!("The model that is being built has the events up to position {}.", job.checkpoint),
                "Cancel the job first.",
            ),
            (false, _) => ("Appends have kept the new model up already.".to_owned(), "Cancel the job first."),
        };
        return Err(Error::wrong_state(format!("rebuild job {} cannot skip event {position}", job.id))
            .detail(why)
            .hint(hint));
    }
    let args = [spi::arg(projection.id), spi::arg(position), spi::arg(reason)];
    let _writing = installation::Writing::begin();
    let written = identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &args, spi::Snapshot::Command, |rows| Ok(rows.len()))
    })?;
    if written == 1 {
        return Ok(());
    }
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_NO_DATA_FOUND,
        format!("there is no event at position {position}"),
    ))
}

/// 55006 if the projection has a job that has not ended.
pub fn require_none(catalog: &Catalog, projection: &Projection) -> Result<()> {
    let Some(job) = row::of_projection(catalog, projection.id)? else { return Ok(()) };
    let state = if job.running { "running" } else { "paused" };
    let hint = match job.phase {
        Phase::Grace => {
            "Use refold.finish_rebuild to keep the new model, or refold.rollback_projection to go back."
        }
        _ => "Wait for it, or use refold.cancel_rebuild, or refold.resume_rebuild if it is paused.",
    };
    Err(Error::in_use(format!("projection \"{}\" is being rebuilt", projection.name))
        .detail(format!("Rebuild job {} is {state}, {}.", job.id, job.phase.as_str()))
        .hint(hint))
}

/// Ends the mirroring of a job that is in its grace period and whose time is over, or whose old model has not kept up.
pub fn end_grace(catalog: &Catalog, job: &mut Job) -> Result<bool> {
    job.require_own(catalog)?;
    if !job.grace_is_over(catalog)? && !job.mirror_has_failed(catalog)? {
        return Ok(false);
    }
    mirroring::end(catalog, job)?;
    Ok(true)
}
