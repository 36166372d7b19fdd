//! The workers of a split replay: the job's own, and helpers that each do one part and end.

use super::batches::Batches;
use crate::names::Position;
use crate::pg::failure::Failure;
use crate::pg::{background, catalog, locks, transaction};
use crate::rebuild::job::building;
use crate::rebuild::job::parts;
use crate::rebuild::job::row::{self, Job};
use crate::settings;
use pgrx::pg_guard;
use pgrx::pg_sys::Datum;
use std::time::{Duration, Instant};

type Outcome<R> = std::result::Result<R, Failure>;

/// Where PostgreSQL starts the helper of a job: its arguments are the job and the part.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn refold_part_worker(_argument: Datum) {
    let [job, part] = background::connect()[..] else { return };
    if let Err(failure) = serve(job, part as i32) {
        background::log(&format!("helper of rebuild job {job} ends: {}", failure.message));
    }
}

fn serve(job: i64, part: i32) -> Outcome<()> {
    if let Some(job) = transaction::run(|| row::find(&catalog::get()?, job))?
        && job.running
    {
        background::become_session_of(job.owner);
        work(&job, part)?;
    }
    Ok(())
}

/// Asks for helpers for all parts but the first. Where there is no room for them, the job's own worker does the work.
pub fn start_helpers(job: &Job, count: i32) -> Outcome<()> {
    transaction::run_without_snapshot(|| {
        for part in 1..count {
            let name = format!("refold rebuild job {} of {}, part {part}", job.id, job.projection);
            if background::start(&name, "refold_part_worker", &[job.id, part.into()]).is_err() {
                break;
            }
        }
        Ok(())
    })
}

/// Does a part to its end, unless another process is at it; returns whether it was done here.
pub fn work(job: &Job, part: i32) -> Outcome<bool> {
    let key = (job.id as u64) << 8 | part as u64;
    let mine =
        transaction::run_without_snapshot(|| Ok(locks::try_lock_key_for_session(locks::Domain::Part, key)))?;
    if !mine {
        return Ok(false);
    }
    let done = replay(job, part);
    transaction::run_without_snapshot(|| {
        locks::unlock_key_of_session(locks::Domain::Part, key);
        Ok(())
    })?;
    done.map(|()| true)
}

fn replay(job: &Job, part: i32) -> Outcome<()> {
    let Some(mut part) = transaction::run(|| parts::take(&catalog::get()?, job.id, part))? else {
        return Ok(());
    };
    let mut batches = Batches::new();
    while part.checkpoint < part.up_to {
        let end = batches.end(part.checkpoint, part.up_to);
        let started = Instant::now();
        let mut at_event = false;
        let mut ahead = part.clone();
        let result = transaction::run(|| parts::batch(&catalog::get()?, job, &mut ahead, end, &mut at_event));
        match result {
            Ok(()) => {
                let target = Duration::from_millis(settings::rebuild_batch_time().max(1) as u64);
                batches.succeeded(part.checkpoint, end, started.elapsed(), target);
                part = ahead;
            }
            Err(failure) if at_event && failure.sqlstate != super::steps::CANCELLED => {
                if let Some(position) = batches.failed(part.checkpoint, end) {
                    return pause(job, failure, position);
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

fn pause(job: &Job, failure: Failure, position: Position) -> Outcome<()> {
    transaction::run(|| {
        let catalog = catalog::get()?;
        let stream = building::stream_at(&catalog, position)?;
        job.pause_failed(&catalog, &failure, stream.as_deref().map(|stream| (position, stream)))
    })?;
    Err(failure)
}
