//! What one would write by hand, and no more: the limit. The log has refold's columns and indexes, but no trigger.

use anyhow::{Result, ensure};
use postgres::{Client, Statement};

use super::refold::fill_statement;
use super::{Appender, Reader, Rebuilder, Rebuilt, System};
use crate::case::{Append, Case, During, Kind, Log, Models, Rebuild, Stall};
use crate::database::Database;
use crate::events::{Call, NewEvent, TAKEN};
use crate::memory::Backend;
use crate::models;

/// How an event and its models are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bare {
    /// A statement for the event and one for each model, in a transaction.
    Statements,
    /// One statement for all.
    OneStatement,
}

const EVENT: &str = "log";
const COLUMNS: &str = "(stream_id, stream_version, event_type, data, event_id, horizon)";

impl System for Bare {
    fn name(&self) -> &'static str {
        match self {
            Self::Statements => "bare SQL",
            Self::OneStatement => "bare SQL, one statement",
        }
    }

    fn version(&self) -> String {
        "the server's".to_owned()
    }

    fn can(&self, case: &Case) -> bool {
        match self {
            Self::Statements => !matches!(case, Case::Beside(_)),
            Self::OneStatement => matches!(case, Case::Append(Append { events: 1, models: Some(_), .. })),
        }
    }

    fn install(&self, database: &Database) -> Result<()> {
        database.execute(
            "CREATE EXTENSION refold;
             CREATE TABLE log (LIKE refold.event INCLUDING ALL)",
        )
    }

    fn log(&self) -> &'static str {
        "SELECT stream_id, event_type, data FROM log"
    }

    fn prepare_models(&self, database: &Database, work: &Append) -> Result<()> {
        // A model that does not take the type is a table that nobody writes.
        (1..=work.models.map_or(0, |models| models.taking))
            .try_for_each(|number| database.execute(&models::create_table(number)))
    }

    fn appender(&self, database: &Database, work: &Append) -> Result<Appender> {
        let mut client = database.connect()?;
        let taking = work.models.map_or(0, |Models { taking, .. }| taking);
        match (work.events, taking, self) {
            (1, 0, _) => {
                let insert = client.prepare(&insert_one())?;
                Ok(Box::new(move |call| each(call, |event| insert_event(&mut client, &insert, call, event))))
            }
            (1, _, Self::OneStatement) => {
                let insert = client.prepare(&insert_with_models(taking))?;
                Ok(Box::new(move |call| each(call, |event| insert_event(&mut client, &insert, call, event))))
            }
            (1, _, Self::Statements) => {
                let insert = client.prepare(&insert_one())?;
                let upserts: Vec<_> = (1..=taking)
                    .map(|number| client.prepare(&models::upsert(number, 1, "$1", "$2::jsonb", "")))
                    .collect::<Result<_, _>>()?;
                Ok(Box::new(move |call| {
                    each(call, |event| insert_and_upsert(&mut client, &insert, &upserts, call, event))
                }))
            }
            _ => {
                ensure!(taking == 0, "no bare statement for many events with models");
                let insert = client.prepare(&insert_many())?;
                Ok(Box::new(move |call| insert_events(&mut client, &insert, call)))
            }
        }
    }

    fn reader(&self, database: &Database) -> Result<Reader> {
        let mut client = database.connect()?;
        let read = client.prepare("SELECT * FROM log WHERE stream_id = $1 ORDER BY stream_version")?;
        Ok(Box::new(move |stream| Ok(client.query(&read, &[&stream])?.len() as u64)))
    }

    fn fill(&self, database: &Database, log: &Log) -> Result<()> {
        database.execute(&fill_statement(EVENT, log))?;
        database.execute("VACUUM (FREEZE, ANALYZE) log")
    }

    fn rebuilder(&self, database: &Database, work: &Rebuild) -> Result<Box<dyn Rebuilder>> {
        let mut client = database.connect()?;
        client.batch_execute(&models::create_table(1))?;
        for version in [1, 2] {
            client.batch_execute(&models::create_handler(work.kind, 1, version, EVENT).1)?;
            if work.kind == Kind::Fold {
                let handler = models::handler(work.kind, 1, version);
                let table = models::table(1);
                client.batch_execute(&format!(
                    "CREATE AGGREGATE {handler}_agg({EVENT}) (SFUNC = {handler}, STYPE = {table})"
                ))?;
            }
        }
        let mut rebuilding = Rebuilding { backend: Backend::open(database, None)?, work: *work };
        rebuilding.rebuild(1)?;
        Ok(Box::new(rebuilding))
    }

    fn rebuild_statements(&self, _database: &Database, work: &Stall) -> Result<Option<[String; 2]>> {
        let log = Log { events: work.events, streams: work.rows, one_in: 1 };
        let rebuild = |version| rebuild_statement(&Rebuild { log, kind: Kind::Fold }, version);
        Ok((work.during == During::Atomic).then(|| [2, 1].map(rebuild)))
    }
}

fn insert_one() -> String {
    format!("INSERT INTO log {COLUMNS} VALUES ($1, $2, '{TAKEN}', $3, $4, '0')")
}

fn insert_with_models(taking: usize) -> String {
    let upsert = |number| models::upsert(number, 1, "e.stream_id", "e.data", "FROM e");
    let named: Vec<_> = (1..=taking).map(|number| format!("m{number} AS ({})", upsert(number))).collect();
    format!("WITH e AS ({} RETURNING stream_id, data), {} SELECT", insert_one(), named.join(", "))
}

/// One row for each element of the arrays.
fn insert_many() -> String {
    format!(
        "INSERT INTO log {COLUMNS}
         SELECT $1, v, '{TAKEN}', d, i, '0' FROM unnest($2::bigint[], $3::jsonb[], $4::uuid[]) AS e (v, d, i)"
    )
}

fn each(call: &Call, mut insert: impl FnMut(&NewEvent) -> Result<()>) -> Result<u64> {
    call.events.iter().try_for_each(&mut insert)?;
    Ok(0)
}

fn insert_event(client: &mut Client, insert: &Statement, call: &Call, event: &NewEvent) -> Result<()> {
    client.execute(insert, &[&call.stream, &(call.version + 1), &event.data, &event.id])?;
    Ok(())
}

fn insert_and_upsert(
    client: &mut Client,
    insert: &Statement,
    upserts: &[Statement],
    call: &Call,
    event: &NewEvent,
) -> Result<()> {
    let mut transaction = client.transaction()?;
    transaction.execute(insert, &[&call.stream, &(call.version + 1), &event.data, &event.id])?;
    for upsert in upserts {
        transaction.execute(upsert, &[&call.stream, &event.data])?;
    }
    Ok(transaction.commit()?)
}

fn insert_events(client: &mut Client, insert: &Statement, call: &Call) -> Result<u64> {
    let versions: Vec<_> = (call.version + 1..).take(call.events.len()).collect();
    let data: Vec<_> = call.events.iter().map(|event| &event.data).collect();
    let ids: Vec<_> = call.events.iter().map(|event| event.id).collect();
    client.execute(insert, &[&call.stream, &versions, &data, &ids])?;
    Ok(0)
}

struct Rebuilding {
    backend: Backend,
    work: Rebuild,
}

impl Rebuilder for Rebuilding {
    fn rebuild(&mut self, version: u32) -> Result<Rebuilt> {
        let statement = rebuild_statement(&self.work, version);
        let ((), rebuilt) = self.backend.watched(|client| Ok(client.batch_execute(&statement)?))?;
        Ok(rebuilt)
    }
}

/// Empties the model and fills it, in one transaction: nobody can read it or append meanwhile.
fn rebuild_statement(work: &Rebuild, version: u32) -> String {
    let table = models::table(1);
    let taken = if work.log.one_in > 1 { format!("WHERE e.event_type = '{TAKEN}'") } else { String::new() };
    let handler = models::handler(work.kind, 1, version);
    let fill = match work.kind {
        Kind::Fold => format!(
            "INSERT INTO {table} SELECT (s.state).* FROM (SELECT {handler}_agg(e ORDER BY e.position) AS state
               FROM log AS e {taken} GROUP BY e.stream_id OFFSET 0) AS s"
        ),
        Kind::PerEvent => format!(
            "SELECT count(s.done) FROM (SELECT {handler}(e) AS done FROM log AS e {taken} ORDER BY e.position) AS s"
        ),
        Kind::PerBatch => {
            format!("INSERT INTO {table} {}", models::summed(&format!("log AS e {taken}"), version))
        }
    };
    format!("BEGIN; TRUNCATE {table}; {fill}; COMMIT")
}
