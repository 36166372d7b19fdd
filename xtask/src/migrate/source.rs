//! An old store, and databases that have one.

use anyhow::{Context, Result, ensure};
use postgres::{Client, NoTls};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::refusals::Refusal;
use super::variations::Variation;
use crate::crash::explain;
use crate::server::Server;

/// Streams of every base, and events.
pub const STREAMS: usize = 5;
pub const EVENTS: usize = 40;

/// An old store: how its tables come to be, how it writes, and what its tables hold, as plain SQL says.
pub trait Source: Sync {
    fn name(&self) -> &'static str;

    /// The script that copies its events.
    fn script(&self) -> &'static str;

    /// What the script must be told in any case.
    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether another source has the same script, for which what is refused is tried.
    fn is_second_of_its_kind(&self) -> bool {
        false
    }

    /// Makes its tables in an empty database.
    fn create(&self, place: &Place) -> Result<()>;

    /// Appends each event to its stream.
    fn write(&self, place: &Place, events: &[NewEvent]) -> Result<()>;

    /// The statement by which it appends an event to a stream that is not there yet.
    fn append_one(&self, stream: &str) -> String;

    fn stream(&self, number: usize) -> String {
        format!("cart-{number}")
    }

    fn words(&self) -> &'static Words;

    /// What there is, event by event, as [`LOG`] should have it.
    fn log(&self) -> String;

    /// What its tables may have, of which something becomes that is to be looked at.
    fn variations(&self) -> &'static [Variation];

    /// What only its tables may have that cannot be copied.
    fn refusals(&self) -> &'static [Refusal];
}

/// What its table and columns are called.
pub struct Words {
    pub table: &'static str,
    pub number: &'static str,
    pub stream: &'static str,
    pub version: &'static str,
    pub id: &'static str,
    pub event_type: &'static str,
    pub data: &'static str,
    pub metadata: &'static str,
    /// Takes away what keeps others from damaging the tables.
    pub unguard: &'static str,
}

impl Words {
    /// A statement in which the words of all stores are those of this one.
    pub fn put_into(&self, sql: &str) -> String {
        let words = [
            ("<table>", self.table),
            ("<number>", self.number),
            ("<stream>", self.stream),
            ("<version>", self.version),
            ("<id>", self.id),
            ("<type>", self.event_type),
            ("<data>", self.data),
            ("<metadata>", self.metadata),
            ("<unguard>", self.unguard),
        ];
        words.iter().fold(sql.to_owned(), |sql, (word, own)| sql.replace(word, own))
    }
}

/// What an old store is given. Data and metadata are JSON.
pub struct NewEvent {
    pub stream: String,
    pub event_type: &'static str,
    pub data: String,
    pub metadata: Option<String>,
}

/// Some events, another lot for another beginning; each stream has as many.
pub fn events(source: &dyn Source, from: usize, count: usize) -> Vec<NewEvent> {
    const TYPES: [&str; 3] = ["item_added", "item_removed", "größe_geändert"];
    let event = |n: usize| NewEvent {
        stream: source.stream((n * 3 + n / STREAMS) % STREAMS),
        event_type: TYPES[n % TYPES.len()],
        data: format!(
            r#"{{"quantity": {}, "sku": "it's \"{n}\" \\ {{é}}", "exact": 0.1234567890123456789{n}, "nested": {{"a": [1, null, {{}}]}}}}"#,
            n % 9
        ),
        metadata: (!n.is_multiple_of(4)).then(|| format!(r#"{{"user": "u{n}", "tags": ["x", {n}]}}"#)),
    };
    (from..from + count).map(event).collect()
}

/// refold's log, each event as a line, as far as an old store has had it.
pub const LOG: &str = "SELECT ROW(stream_id, stream_version, event_type, data, metadata - 'copied_from', event_id,
    (metadata->'copied_from'->>'recorded_at')::timestamptz, (metadata->'copied_from'->>'position')::bigint)::text
    FROM refold.event ORDER BY position";
/// The same with all that it has.
pub const WHOLE_LOG: &str = "SELECT e::text FROM refold.event AS e ORDER BY e.position";

static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// A database with an old store.
pub struct Place<'a> {
    pub server: &'a Server,
    pub database: String,
}

impl Place<'_> {
    pub fn connect(&self) -> Result<Client> {
        self.server.config(&self.database).options("-c statement_timeout=60s").connect(NoTls).map_err(explain)
    }

    pub fn execute(&self, sql: &str) -> Result<()> {
        self.connect()?.batch_execute(sql).map_err(explain).with_context(|| sql.to_owned())
    }

    /// The first column, a line for each row.
    pub fn lines(&self, sql: &str) -> Result<Vec<String>> {
        let rows = self.connect()?.query(sql, &[]).map_err(explain).with_context(|| sql.to_owned())?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Fails with the first line that differs.
    pub fn require_same(&self, what: &str, old: &str, new: &str) -> Result<()> {
        let (old, new) = (self.lines(old)?, self.lines(new)?);
        require_same(what, &old, &new)
    }
}

pub fn require_same(what: &str, old: &[String], new: &[String]) -> Result<()> {
    if let Some((old, new)) = old.iter().zip(new).find(|(old, new)| old != new) {
        ensure!(old == new, "{what}:\n{old}\nhas become\n{new}");
    }
    ensure!(old.len() == new.len(), "{what}: {} lines have become {}", old.len(), new.len());
    Ok(())
}

/// A database of an old store that is copied for each case.
pub struct Base<'a> {
    pub server: &'a Server,
    pub source: &'a dyn Source,
    name: String,
}

impl<'a> Base<'a> {
    pub fn of(server: &'a Server, source: &'a dyn Source) -> Self {
        let name = source.name().replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
        Self { server, source, name: format!("migrate_{name}").to_lowercase() }
    }

    /// Makes it, with events.
    pub fn create(server: &'a Server, source: &'a dyn Source) -> Result<Self> {
        let base = Self::of(server, source);
        server.create_database(&base.name)?;
        let place = Place { server, database: base.name.clone() };
        source.create(&place).with_context(|| format!("cannot make the tables of {}", source.name()))?;
        source.write(&place, &events(source, 0, EVENTS))?;
        Ok(base)
    }

    /// Runs `case` in a copy that has refold too.
    pub fn with_copy(&self, case: impl FnOnce(&Place) -> Result<()>) -> Result<()> {
        let place = self.next_place();
        let postgres = Place { server: self.server, database: "postgres".to_owned() };
        postgres.execute(&format!("CREATE DATABASE {} TEMPLATE {}", place.database, self.name))?;
        run(&place, case)
    }

    /// The same with empty tables, and without a base.
    pub fn with_tables(&self, case: impl FnOnce(&Place) -> Result<()>) -> Result<()> {
        let place = self.next_place();
        self.server.create_database(&place.database)?;
        self.source.create(&place)?;
        run(&place, case)
    }

    fn next_place(&self) -> Place<'a> {
        let database = format!("migration_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        Place { server: self.server, database }
    }
}

fn run(place: &Place, case: impl FnOnce(&Place) -> Result<()>) -> Result<()> {
    place.execute("CREATE EXTENSION refold")?;
    case(place)?;
    place.server.drop_database(&place.database)
}
