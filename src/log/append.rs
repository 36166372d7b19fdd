//! Appending: gate, stream lock, checks, whatever the observer locks, draw, insert.

use super::event_id;
use crate::error::{Error, Result};
use crate::names::{EventType, ExpectedVersion, Position, StreamId};
use crate::pg::catalog::{self, Catalog};
use crate::pg::event_tuple::{self, Event};
use crate::pg::last_version::{Seen, last_version};
use crate::pg::waitpoint::{self, Waitpoint};
use crate::pg::{call, identity, locks, log_table, process, sequence, snapshot, spi};
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
    pub datum: pg_sys::Datum,
}

/// The events of an append before they have positions.
pub struct Drafts<'a> {
    catalog: &'a Catalog,
    rows: &'a [(EventType, Event)],
}

impl Drafts<'_> {
    pub fn types(&self) -> impl ExactSizeIterator<Item = &str> {
        self.rows.iter().map(|(event_type, _)| event_type.as_str())
    }

    /// The stream that all of them go to.
    pub fn stream_id(&self) -> Option<pg_sys::Datum> {
        self.rows.first().map(|(_, row)| row.stream_id)
    }

    /// As values of type `refold.event`, which takes a copy of each.
    pub fn form(&self) -> Vec<Draft> {
        self.rows
            .iter()
            .map(|(_, row)| {
                process::check_interrupts();
                Draft { stream_id: row.stream_id, datum: event_tuple::form(self.catalog, row) }
            })
            .collect()
    }
}

/// Who takes part in an append.
pub trait Observer {
    /// Under the gate and the stream's lock, before positions are drawn: takes whatever locks the order of the draw
    /// must agree with (I6). The drafts have no position yet.
    fn before_draw(&mut self, catalog: &Catalog, drafts: &Drafts) -> Result<()>;

    /// Whether `before_insert` reads the events.
    fn wants_events(&self) -> bool;

    /// Once the events are complete, before they are written; without them where they are not wanted.
    fn before_insert(&mut self, events: Vec<Draft>);

    /// What the log's trigger does after the events were written: called where they went in without a statement.
    fn apply(&mut self) -> Result<()>;

    /// After the events were written and applied.
    fn after_insert(&mut self) -> Result<()>;
}

const INSERT_SQL: &str = "INSERT INTO refold.event (position, stream_id, stream_version, event_type, data, metadata, \
    event_id, recorded_at, horizon) OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const INSERT_ARRAY_SQL: &str = "INSERT INTO refold.event (position, stream_id, stream_version, event_type, data, \
    metadata, event_id, recorded_at, horizon) OVERRIDING SYSTEM VALUE SELECT e.position, e.stream_id, \
    e.stream_version, e.event_type, e.data, e.metadata, e.event_id, e.recorded_at, e.horizon \
    FROM pg_catalog.unnest($1) AS e";

thread_local! {
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
    snapshot::require_writable("append events")?;
    // I1: the gate first, and to the transaction's end.
    let catalog = catalog::get_under_gate()?;
    waitpoint::reach(Waitpoint::AppendGateHeld);
    let hash = lock_stream(stream.as_str());
    waitpoint::reach(Waitpoint::AppendStreamLocked);

    if let Some(appended) = event_id::find_repeated(&catalog, stream, &events)? {
        return Ok(appended);
    }
    let stream_id = call::value(stream.as_str()).ok_or_else(|| Error::null_argument("stream_id"))?;
    let version = stream_version(&catalog, stream, hash, stream_id)?;
    expected.check(stream, version)?;

    let mut rows = rows(stream_id, version, events)?;
    observer.before_draw(&catalog, &Drafts { catalog: &catalog, rows: &rows })?;
    waitpoint::reach(Waitpoint::AppendKeysLocked);

    draw(&catalog, &mut rows);
    let drafts = Drafts { catalog: &catalog, rows: &rows };
    observer.before_insert(if observer.wants_events() { drafts.form() } else { Vec::new() });
    identity::as_refold(catalog.owner, || {
        if log_table::insert(&catalog, rows.iter().map(|(_, row)| row))? {
            observer.apply()
        } else {
            insert(&drafts)
        }
    })?;
    observer.after_insert()?;
    waitpoint::reach(Waitpoint::AppendReturning);

    rows.last()
        .and_then(|(_, row)| {
            row.position.map(|position| Appended { stream_version: row.stream_version, position })
        })
        .ok_or_else(|| Error::bad_value("events must not be empty"))
}

/// Gives the events their positions, and the horizon that bounds whoever has drawn earlier ones.
fn draw(catalog: &Catalog, rows: &mut [(EventType, Event)]) {
    sequence::assign_xid();
    for (_, row) in rows.iter_mut() {
        process::check_interrupts();
        row.position = Some(sequence::draw(catalog.positions));
    }
    waitpoint::reach(Waitpoint::AppendPositionsDrawn);
    let horizon = sequence::next_xid();
    for (_, row) in rows {
        row.horizon = Some(horizon);
    }
}

/// An event that another server's log has, and that logical replication brings: appended here, up to its insert. It gets
/// this log's next position, and not the one that it had there. Transactions come in the order of their commits, so a smaller
/// position could come after a larger one, and neither lemma would hold. Drawn here, under the gate and the locks that any
/// append takes (I1, I6), positions are what they are everywhere.
pub fn admit_replicated(event: Event, observer: &mut impl Observer) -> Result<Event> {
    let catalog = catalog::get_under_gate()?;
    let (stream, event_type) = event.names();
    let stream = StreamId::new(stream)?;
    let hash = lock_stream(stream.as_str());
    let version = stream_version(&catalog, &stream, hash, event.stream_id)?;
    if event.stream_version != version + 1 {
        return Err(not_the_next(&stream, version, event.stream_version));
    }
    let mut rows = [(EventType::new(event_type)?, Event { position: None, horizon: None, ..event })];
    observer.before_draw(&catalog, &Drafts { catalog: &catalog, rows: &rows })?;
    draw(&catalog, &mut rows);
    let [(_, event)] = rows;
    Ok(event)
}

fn not_the_next(stream: &StreamId, here: i64, comes: i64) -> Error {
    let stream = stream.as_str();
    let error = Error::wrong_state(format!("the replicated event is not the next of stream \"{stream}\""))
        .detail(format!("The stream is at version {here} here, and version {comes} comes."));
    if comes <= here {
        error.hint("A stream is appended to on one server only, and comes from there by one subscription.")
    } else {
        error.hint(
            "Publish all events of a stream, and copy those that there are: a store into which a log is copied must be new.",
        )
    }
}

/// Waits for whoever appends to the stream. Returns the hash that stands for it.
pub fn lock_stream(stream: &str) -> u64 {
    let hash = locks::hash(stream.as_bytes(), 0);
    locks::lock_key(locks::Domain::Stream, hash);
    hash
}

/// The version that the stream is at now, 0 where it does not exist. 40001 if the transaction's snapshot is older.
fn stream_version(catalog: &Catalog, stream: &StreamId, hash: u64, stream_id: pg_sys::Datum) -> Result<i64> {
    let latest = last_version(catalog.event, hash, stream_id, Seen::Latest);
    if snapshot::keeps_one_snapshot()
        && last_version(catalog.event, hash, stream_id, Seen::ByTransaction) != latest
    {
        return Err(Error::retry(format!(
            "stream \"{}\" has changed since this transaction's snapshot",
            stream.as_str()
        ))
        .detail(format!("It is at version {latest} now."))
        .hint("Retry the transaction."));
    }
    Ok(latest)
}

fn rows(stream_id: pg_sys::Datum, version: i64, events: Vec<NewEvent>) -> Result<Vec<(EventType, Event)>> {
    let recorded_at = sequence::now();
    // Not collected: that would begin small and grow, as one that may fail has no length.
    let mut rows = Vec::with_capacity(events.len());
    for (stream_version, event) in (version + 1..).zip(events) {
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
        rows.push((event.event_type, row));
    }
    Ok(rows)
}

/// Writes the rows by a statement, whose triggers apply them. Several go in as values of type `refold.event`.
fn insert(drafts: &Drafts) -> Result<()> {
    let catalog = drafts.catalog;
    if let [(_, row)] = drafts.rows {
        let plan =
            spi::kept(&INSERT, catalog.event, || spi::Plan::prepare(INSERT_SQL, &event_tuple::COLUMN_TYPES))?;
        spi::execute(plan, &row.columns(), None)?;
        return Ok(());
    }
    let array =
        event_tuple::array(catalog, &drafts.form().iter().map(|draft| draft.datum).collect::<Vec<_>>());
    let prepare = || spi::Plan::prepare(INSERT_ARRAY_SQL, &[catalog.event_array]);
    spi::execute(spi::kept(&INSERT_ARRAY, catalog.event, prepare)?, &[Some(array)], None)?;
    Ok(())
}
