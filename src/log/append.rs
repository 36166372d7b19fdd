//! Appending: gate, stream lock, checks, whatever the observer locks, draw, insert.

use super::event_id;
use crate::error::{Error, Result};
use crate::names::{EventType, ExpectedVersion, Position, StreamId};
use crate::pg::catalog::{self, Catalog};
use crate::pg::event_tuple::{self, Event};
use crate::pg::waitpoint::{self, Waitpoint};
use crate::pg::{call, identity, locks, process, sequence, snapshot, spi};
use pgrx::pg_sys;
use std::cell::Cell;
use uuid::Uuid;

/// What a client wants appended. The datums are jsonb.
pub struct NewEvent {
    pub event_type: EventType,
    pub data: pg_sys::Datum,
    pub metadata: pg_sys::Datum,
    pub event_id: Option<Uuid>,
}

/// Where the last event of an append went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub stream_version: i64,
    pub position: Position,
}

/// An event on its way into the log, as a value of type `refold.event`.
pub struct Draft {
    pub stream_id: pg_sys::Datum,
    pub event_type: String,
    pub datum: pg_sys::Datum,
}

/// Who takes part in an append.
pub trait Observer {
    /// Under the gate and the stream's lock, before positions are drawn: takes whatever locks the order of the draw
    /// must agree with (I6). The drafts have no position yet.
    fn before_draw(&mut self, catalog: &Catalog, drafts: &[Draft]) -> Result<()>;

    /// Once the events are complete, before they are written.
    fn before_insert(&mut self, events: Vec<Draft>);

    /// After the events were written and the triggers have fired.
    fn after_insert(&mut self) -> Result<()>;
}

const VERSION_SQL: &str = "SELECT e.stream_version FROM refold.event AS e \
    WHERE e.stream_id OPERATOR(pg_catalog.=) $1 ORDER BY e.stream_version DESC LIMIT 1";
const INSERT_SQL: &str = "INSERT INTO refold.event (position, stream_id, stream_version, event_type, data, metadata, \
    event_id, recorded_at, horizon) OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const INSERT_ARRAY_SQL: &str = "INSERT INTO refold.event (position, stream_id, stream_version, event_type, data, \
    metadata, event_id, recorded_at, horizon) OVERRIDING SYSTEM VALUE SELECT e.position, e.stream_id, \
    e.stream_version, e.event_type, e.data, e.metadata, e.event_id, e.recorded_at, e.horizon \
    FROM pg_catalog.unnest($1) AS e";

thread_local! {
    static VERSION: spi::KeptPlan = const { Cell::new(None) };
    static INSERT: spi::KeptPlan = const { Cell::new(None) };
    static INSERT_ARRAY: spi::KeptPlan = const { Cell::new(None) };
}

/// Appends all events to the stream, or none.
pub fn append(
    stream: &StreamId,
    events: Vec<NewEvent>,
    expected: ExpectedVersion,
    observer: &mut impl Observer,
) -> Result<Appended> {
    // I1: the gate first, and to the transaction's end.
    let catalog = catalog::get_under_gate()?;
    waitpoint::reach(Waitpoint::AppendGateHeld);
    lock_stream(stream.as_str());
    waitpoint::reach(Waitpoint::AppendStreamLocked);

    let version = identity::as_refold(catalog.owner, || {
        if let Some(appended) = event_id::find_repeated(&catalog, stream, &events)? {
            return Ok(Err(appended));
        }
        stream_version(&catalog, stream).map(Ok)
    })?;
    let version = match version {
        Ok(version) => version,
        Err(appended) => return Ok(appended),
    };
    expected.check(stream, version)?;

    let mut rows = rows(stream, version, events)?;
    observer.before_draw(&catalog, &drafts(&catalog, &rows))?;
    waitpoint::reach(Waitpoint::AppendKeysLocked);

    sequence::assign_xid();
    for (_, row) in &mut rows {
        process::check_interrupts();
        row.position = Some(sequence::draw(catalog.positions));
    }
    waitpoint::reach(Waitpoint::AppendPositionsDrawn);
    let horizon = sequence::next_xid();
    for (_, row) in &mut rows {
        row.horizon = Some(horizon);
    }
    let written = drafts(&catalog, &rows);
    let events: Vec<_> = written.iter().map(|draft| draft.datum).collect();
    observer.before_insert(written);
    identity::as_refold(catalog.owner, || insert(&catalog, &rows, &events))?;
    observer.after_insert()?;
    waitpoint::reach(Waitpoint::AppendReturning);

    rows.last()
        .and_then(|(_, row)| {
            row.position.map(|position| Appended { stream_version: row.stream_version, position })
        })
        .ok_or_else(|| Error::bad_value("events must not be empty"))
}

/// Waits for whoever appends to the stream.
pub fn lock_stream(stream: &str) {
    locks::lock_key(locks::Domain::Stream, locks::hash(stream.as_bytes(), 0));
}

/// The version that the stream is at now, 0 where it does not exist. 40001 if the transaction's snapshot is older.
fn stream_version(catalog: &Catalog, stream: &StreamId) -> Result<i64> {
    let plan = spi::kept(&VERSION, catalog.event, || spi::Plan::prepare(VERSION_SQL, &[pg_sys::TEXTOID]))?;
    let args = [call::value(stream.as_str())];
    let read =
        |snapshot| spi::query(plan, &args, snapshot, None, |rows| Ok(rows.get::<i64>(0, 0).unwrap_or(0)));
    let latest = read(spi::Snapshot::Latest)?;
    if snapshot::keeps_one_snapshot() && read(spi::Snapshot::Command)? != latest {
        return Err(Error::retry(format!(
            "stream \"{}\" has changed since this transaction's snapshot",
            stream.as_str()
        ))
        .detail(format!("It is at version {latest} now."))
        .hint("Retry the transaction."));
    }
    Ok(latest)
}

fn rows(stream: &StreamId, version: i64, events: Vec<NewEvent>) -> Result<Vec<(EventType, Event)>> {
    let stream_id = call::value(stream.as_str()).ok_or_else(|| Error::null_argument("stream_id"))?;
    let recorded_at = sequence::now();
    (version + 1..)
        .zip(events)
        .map(|(stream_version, event)| {
            let event_type = call::value(event.event_type.as_str());
            let row = Event {
                position: None,
                stream_id,
                stream_version,
                event_type: event_type.ok_or_else(|| Error::null_argument("event_type"))?,
                data: event.data,
                metadata: event.metadata,
                event_id: event.event_id.unwrap_or_else(Uuid::now_v7),
                recorded_at,
                horizon: None,
            };
            Ok((event.event_type, row))
        })
        .collect()
}

fn drafts(catalog: &Catalog, rows: &[(EventType, Event)]) -> Vec<Draft> {
    rows.iter()
        .map(|(event_type, row)| {
            process::check_interrupts();
            Draft {
                stream_id: row.stream_id,
                event_type: event_type.as_str().to_owned(),
                datum: event_tuple::form(catalog, row),
            }
        })
        .collect()
}

/// Writes the rows; `events` are the same as values of type `refold.event`.
fn insert(catalog: &Catalog, rows: &[(EventType, Event)], events: &[pg_sys::Datum]) -> Result<()> {
    match rows {
        [(_, row)] => {
            let plan = spi::kept(&INSERT, catalog.event, || {
                spi::Plan::prepare(INSERT_SQL, &event_tuple::COLUMN_TYPES)
            })?;
            spi::execute(plan, &row.columns(), None)?;
        }
        _ => {
            let array = event_tuple::array(catalog, events);
            let prepare = || spi::Plan::prepare(INSERT_ARRAY_SQL, &[catalog.event_array]);
            spi::execute(spi::kept(&INSERT_ARRAY, catalog.event, prepare)?, &[Some(array)], None)?;
        }
    }
    Ok(())
}
