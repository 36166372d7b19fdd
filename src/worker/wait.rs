//! Waiting for a job's new model, without a snapshot: the worker waits for all that are older than its flip.

use crate::error::{Error, Result};
use crate::pg::background::Started;
use crate::pg::procedure::Connection;
use crate::pg::{catalog, latch, locks};
use crate::rebuild::job::control;
use crate::rebuild::job::row;

/// Milliseconds between two looks at the job.
const LOOK: i64 = 50;
/// Looks in a row that find the job running and no worker.
const LOOKS_WITHOUT_WORKER: u32 = 40;

/// What becomes of the job if its caller is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    Keep,
    Cancel,
}

/// Commits, so that the job's worker begins, and returns when the new model is live and, without a grace period, the job
/// has ended. 55000 if the job is paused or cancelled before. Called in a procedure, outside a transaction block.
pub fn for_new_model(job: i64, name: &str, started: &Started, on_cancel: OnCancel) -> Result<()> {
    let connection = Connection::open();
    connection.commit();
    if on_cancel == OnCancel::Cancel {
        latch::hold_cancel();
    }
    let mut lonely = 0;
    while !has_new_model(job)? {
        lonely = if is_lonely(job, started)? { lonely + 1 } else { 0 };
        if lonely > LOOKS_WITHOUT_WORKER {
            return Err(Error::wrong_state(format!("rebuild job {job} has lost its worker"))
                .hint("Use refold.resume_rebuild to go on, or refold.cancel_rebuild."));
        }
        latch::sleep(LOOK);
        if on_cancel == OnCancel::Cancel && latch::take_cancel() {
            control::cancel(&catalog::get()?, name, Some(job))?;
            connection.commit();
            latch::give_back_cancel();
            // Raises it.
            latch::sleep(0);
        }
    }
    if on_cancel == OnCancel::Cancel {
        latch::release_cancel();
    }
    connection.close();
    Ok(())
}

/// Whether readers see the new model, and nothing is left to do but to wait for the end of a grace period.
fn has_new_model(job: i64) -> Result<bool> {
    let catalog = catalog::get()?;
    let Some(open) = row::find(&catalog, job)? else {
        return match row::outcome(&catalog, job)?.as_deref() {
            Some("done") => Ok(true),
            _ => Err(Error::wrong_state(format!("rebuild job {job} was cancelled"))),
        };
    };
    if open.running {
        return Ok(open.phase == row::Phase::Grace);
    }
    let error = Error::wrong_state(format!("rebuild job {job} is paused"));
    let hint = "See refold.rebuild_jobs; use refold.resume_rebuild to go on, or refold.cancel_rebuild.";
    Err(match row::error_of(&catalog, job)? {
        Some(text) => error.detail(text),
        None => error,
    }
    .hint(hint))
}

/// Whether the job's first worker has ended and no other is at work.
fn is_lonely(job: i64, started: &Started) -> Result<bool> {
    if !started.has_ended() {
        return Ok(false);
    }
    Ok(locks::key_holder(locks::Domain::Job, job as u64)?.is_none())
}
