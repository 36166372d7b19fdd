//! The replay of a job, batch by batch: each commits its rows together with its checkpoint, or not at all.

use super::row::Job;
use super::shadows;
use crate::error::{Error, Result};
use crate::log::watermark;
use crate::names::Position;
use crate::pg::catalog::Catalog;
use crate::pg::progress::{Kind, Progress};
use crate::pg::waitpoint::{self, Waitpoint};
use crate::pg::{identity, locks, spi};
use crate::projection::check::{self, Checked};
use crate::projection::registry;
use crate::rebuild::destination::Destination;
use crate::rebuild::replay::Replay;
use crate::rebuild::shadow;

/// The job's projection with the job's handler, its tables kept from being altered until the transaction ends. 55000
/// where it is not what the job was started for.
pub fn checked(catalog: &Catalog, job: &Job) -> Result<Checked> {
    for &table in &registry::find(catalog, &job.projection)?.tables {
        locks::lock_relation(table, locks::Mode::AccessShare);
    }
    let projection = registry::find(catalog, &job.projection)?;
    if projection.owner != job.owner {
        return Err(Error::wrong_state(format!(
            "the tables of projection \"{}\" have got another owner",
            job.projection
        ))
        .hint("Cancel the job with refold.cancel_rebuild; the new owner can start another."));
    }
    let checked = check::rebuilt_projection(catalog, projection, Some(job.handler))?;
    if checked.fingerprint() != job.fingerprint {
        return Err(Error::wrong_state(format!(
            "handler {} or its key was replaced while rebuild job {} was at work",
            checked.handler.signature, job.id
        ))
        .detail("Part of the model was built by the earlier definition.")
        .hint(
            "Cancel the job and start another; or resume it, if the change does not concern the events replayed so far \
             (it is verified then).",
        ));
    }
    Ok(checked)
}

/// The tables that the job fills.
pub fn destination(catalog: &Catalog, job: &Job, checked: &Checked) -> Result<Destination> {
    if job.in_place {
        return Destination::live(catalog, &checked.projection);
    }
    let schema = shadows::schema_of(catalog, job)?;
    Destination::copies(catalog, &checked.projection, schema)
}

/// A replay that goes on from the job's checkpoint.
pub fn replay<'a>(
    catalog: &'a Catalog,
    job: &Job,
    checked: &'a Checked,
    destination: &'a Destination,
) -> Replay<'a> {
    let progress = Progress::start(catalog.gate, job.projection_id.into(), Kind::Job);
    let mut replay = Replay::new(catalog, checked, destination, progress, spi::Snapshot::Command);
    replay.resume(job.checkpoint, job.events);
    replay
}

/// 55000 where the shadow could not change places with the live tables any more: better before the work than after it.
pub fn require_unaltered(catalog: &Catalog, job: &Job, checked: &Checked) -> Result<()> {
    match &job.definition {
        Some(definition) => shadow::require_unaltered(catalog, &checked.projection, definition),
        None => Ok(()),
    }
}

/// Replays the positions up to `end`, which are final. `at_event` tells whether an error is that of an event.
pub fn batch(catalog: &Catalog, job: &mut Job, end: Position, at_event: &mut bool) -> Result<()> {
    job.require_own(catalog)?;
    let checked = checked(catalog, job)?;
    require_unaltered(catalog, job, &checked)?;
    let destination = destination(catalog, job, &checked)?;
    let mut replay = replay(catalog, job, &checked, &destination);
    *at_event = true;
    replay.tail(end)?;
    *at_event = false;
    waitpoint::reach(Waitpoint::BatchReplayed);
    let events = replay.events();
    replay.finish();
    job.advance(catalog, end, events, watermark::last_drawn(catalog)?)?;
    waitpoint::reach(Waitpoint::BatchWritten);
    Ok(())
}

/// Collects statistics of the shadow: the plans of appends that keep it up should not be those for an empty table.
pub fn analyze(catalog: &Catalog, job: &Job) -> Result<()> {
    job.require_own(catalog)?;
    let checked = checked(catalog, job)?;
    let destination = destination(catalog, job, &checked)?;
    checked.projection.as_owner(|| destination.analyze())
}

/// The stream of the event at this position, if there is one.
pub fn stream_at(catalog: &Catalog, position: Position) -> Result<Option<String>> {
    const SQL: &str = "SELECT e.stream_id FROM refold.event AS e WHERE e.position = $1";
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[spi::arg(position)], spi::Snapshot::Latest, |rows| Ok(rows.get(0, 0)))
    })
}
