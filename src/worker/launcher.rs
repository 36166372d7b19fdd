//! With `shared_preload_libraries`: a worker that sees to it that unfinished jobs have one, after a restart of the server
//! and whenever a job's own worker has ended early.

use crate::error::Result;
use crate::pg::catalog::{self, Catalog};
use crate::pg::failure::Failure;
use crate::pg::{background, databases, identity, locks, spi, transaction};
use crate::rebuild::job::control;
use crate::settings;
use pgrx::pg_guard;
use pgrx::pg_sys::{Datum, Oid};

/// Milliseconds between two rounds through the databases.
const ROUND: i64 = 60_000;
/// Milliseconds between two looks at the worker of one database.
const LOOK: i64 = 20;

/// Asks for the launcher, if the library is loaded with the server; called when the library is loaded.
pub fn register() {
    background::register_with_server("refold launcher", "refold_launcher");
}

/// Where PostgreSQL starts the launcher.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn refold_launcher(_argument: Datum) {
    background::connect_to_none();
    loop {
        match databases() {
            Ok(databases) => databases.into_iter().for_each(look_into),
            Err(failure) => background::log(&format!("refold launcher: {}", failure.message)),
        }
        // A cancel has nothing to cancel here.
        let _ = background::rest(ROUND);
    }
}

/// The databases that `refold.database` names, or all.
fn databases() -> std::result::Result<Vec<Oid>, Failure> {
    let wanted = settings::database();
    let named = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    transaction::run_without_snapshot(|| {
        Ok(databases::all().into_iter().filter(|(_, name)| named(name)).map(|(oid, _)| oid).collect())
    })
}

/// Has a worker look into a database, and waits for its end: one at a time, so that jobs have the others.
fn look_into(database: Oid) {
    let started = transaction::run_without_snapshot(|| {
        background::start_in(database, "refold job starter", "refold_job_starter", &[])
    });
    match started {
        Ok(started) => {
            while !started.has_ended() {
                let _ = background::rest(LOOK);
            }
        }
        Err(failure) => background::log(&format!("refold launcher: {}", failure.message)),
    }
}

/// Where PostgreSQL starts the worker that looks into a database.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn refold_job_starter(_argument: Datum) {
    background::connect();
    let started = transaction::run(|| {
        if !catalog::is_installed() {
            return Ok(());
        }
        start_orphans(&catalog::get()?)
    });
    if let Err(failure) = started {
        background::log(&format!("refold job starter: {}", failure.message));
    }
}

/// Starts a worker for each running job that has none. A job that has got one meanwhile keeps that.
fn start_orphans(catalog: &Catalog) -> Result<()> {
    const SQL: &str = "SELECT j.job_id, j.projection_id, p.name FROM refold.rebuild_job AS j \
        JOIN refold.projection AS p USING (projection_id) WHERE j.state = 'running' ORDER BY j.job_id";
    let jobs: Vec<(i64, i32, String)> = identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[], spi::Snapshot::Latest, |rows| {
            (0..rows.len())
                .map(|row| Ok((rows.need(row, 0)?, rows.need(row, 1)?, rows.need(row, 2)?)))
                .collect()
        })
    })?;
    for (job, projection, name) in jobs {
        if locks::key_holder(locks::Domain::Job, job as u64)?.is_none() {
            control::start_worker(&name, projection, job)?;
        }
    }
    Ok(())
}
