//! Background workers: one for each rebuild job that is at work, helpers of a split replay, and the launcher.

mod batches;
pub mod launcher;
mod parts;
mod steps;
pub mod wait;

use crate::error::Result;
use crate::pg::catalog;
use crate::pg::failure::Failure;
use crate::pg::{background, locks, transaction};
use crate::rebuild::job::row::{self, Job};
use pgrx::pg_guard;
use pgrx::pg_sys::Datum;
use steps::{Next, Worker};

/// So often in a row a worker may fail otherwise than by its job's own errors, which pause the job.
const MAX_ACCIDENTS: u32 = 3;

/// Where PostgreSQL starts the worker of a job: its arguments are the job and its projection.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn refold_job_worker(_argument: Datum) {
    let [job, projection] = background::connect()[..] else { return };
    if let Err(failure) = serve(job, projection) {
        background::log(&format!("worker of rebuild job {job} ends: {}", failure.message));
    }
}

/// Works on the job while it is running and has no other worker.
fn serve(job: i64, projection: i64) -> std::result::Result<(), Failure> {
    let key = job as u64;
    // Whoever has asked for this worker holds this lock until the job's row is visible.
    transaction::run_without_snapshot(|| {
        locks::lock_key(locks::Domain::Rebuild, projection as u64);
        Ok(())
    })?;
    let mut accidents = 0;
    while is_running(job)? {
        if !be_its_worker(key)? {
            return Ok(());
        }
        let worked = work(job);
        transaction::run_without_snapshot(|| {
            locks::unlock_key_of_session(locks::Domain::Job, key);
            Ok(())
        })?;
        // Whoever has made it run again since has found a worker here, and relies on the next look.
        if let Err(failure) = worked {
            accidents += 1;
            if accidents == MAX_ACCIDENTS {
                return Err(failure);
            }
        }
    }
    Ok(())
}

/// Holds the lock that tells a job's worker. False: another process is its worker.
fn be_its_worker(key: u64) -> std::result::Result<bool, Failure> {
    transaction::run_without_snapshot(|| Ok(locks::try_lock_key_for_session(locks::Domain::Job, key)))
}

fn is_running(job: i64) -> std::result::Result<bool, Failure> {
    transaction::run(|| Ok(row::find(&catalog::get()?, job)?.is_some_and(|job| job.running)))
}

/// Takes the job and does step after step, until it ends or is somebody else's.
fn work(id: i64) -> std::result::Result<(), Failure> {
    let take = || -> Result<Option<Job>> { Job::take(&catalog::get()?, id) };
    let Some(job) = transaction::run(take)? else { return Ok(()) };
    background::become_session_of(job.owner);
    let mut worker = Worker::new(job);
    loop {
        // A handler may have given the lock back: what it does to the session's advisory locks stays. Whoever takes the
        // job then counts its epoch up, so that this worker writes nothing more.
        if !be_its_worker(id as u64)? {
            return Ok(());
        }
        let next = worker.step().and_then(|next| match next {
            Next::In(milliseconds) => background::rest(milliseconds).map(|()| Next::Now),
            next => Ok(next),
        });
        match next {
            Ok(Next::End) => return Ok(()),
            Ok(_) => background::take_settings(),
            Err(failure) => match worker.after(failure)? {
                Next::In(milliseconds) => background::rest(milliseconds)?,
                Next::Now => {}
                Next::End => return Ok(()),
            },
        }
    }
}
