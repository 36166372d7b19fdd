//! Emmett's PostgreSQL event store: its SQL function for appends, its own client for projections.

use anyhow::{Context, Result, ensure};
use postgres::error::SqlState;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Appender, Clients, Reader, Rebuilder, Rebuilt, Session, System, peer};
use crate::case::{Append, Case, Kind, Log, Models, Rebuild};
use crate::database::Database;
use crate::events::{DATA_SQL, OTHER, Source, TAKEN};
use crate::load::{Run, Window, histogram, record};
use crate::models;

pub struct Emmett {
    script: PathBuf,
}

/// Beyond this its rebuild takes very long: each batch reads the whole log, which has no index of its global positions.
const MOST_REBUILT: u64 = 10_000;
/// A client that is not let in so often is not appending.
const MOST_TRIES: u64 = 10_000;

impl Emmett {
    pub fn new(folder: &Path) -> Self {
        Self { script: folder.join("peer.mjs") }
    }

    fn ask<T: serde::de::DeserializeOwned>(
        &self,
        database: &Database,
        task: &str,
        input: &Value,
    ) -> Result<T> {
        peer::ask("node", &self.script, database, task, input)
    }
}

impl System for Emmett {
    fn name(&self) -> &'static str {
        "Emmett"
    }

    fn version(&self) -> String {
        "@event-driven-io/emmett-postgresql 0.42.0".to_owned()
    }

    fn can(&self, case: &Case) -> bool {
        match case {
            Case::Append(_) | Case::Read(_) => true,
            Case::Rebuild(work) | Case::RebuildMemory(work) => work.log.events <= MOST_REBUILT,
            Case::Beside(_) | Case::Stall(_) => false,
        }
    }

    fn install(&self, database: &Database) -> Result<()> {
        self.ask(database, "migrate", &Value::Null)
    }

    fn log(&self) -> &'static str {
        "SELECT stream_id, message_type AS event_type, message_data AS data FROM emt_messages"
    }

    fn model(&self, kind: Kind, number: usize) -> String {
        let table = models::table(number);
        match kind {
            Kind::Fold => format!(
                "SELECT _id AS cart_id, (data->>'items')::bigint AS items, (data->>'total')::numeric AS total FROM {table}"
            ),
            Kind::PerEvent | Kind::PerBatch => format!("SELECT * FROM {table}"),
        }
    }

    fn prepare_models(&self, database: &Database, work: &Append) -> Result<()> {
        let Some(Models { kind, count, .. }) = work.models else { return Ok(()) };
        let mine = (1..=count).filter(|_| kind != Kind::Fold);
        mine.map(models::create_table).try_for_each(|sql| database.execute(&sql))
    }

    fn appender(&self, database: &Database, _work: &Append) -> Result<Appender> {
        let mut client = database.connect()?;
        let append = client.prepare(&format!(
            "SELECT success FROM emt_append_to_stream($1::text[], $2::jsonb[],
               array_fill('{{}}'::jsonb, ARRAY[cardinality($1)]), array_fill('1'::text, ARRAY[cardinality($1)]),
               array_fill('{TAKEN}'::text, ARRAY[cardinality($1)]), array_fill('E'::text, ARRAY[cardinality($1)]),
               $3, 'cart', NULL, 'emt:default')"
        ))?;
        Ok(Box::new(move |call| {
            let ids: Vec<_> = call.events.iter().map(|event| event.id.to_string()).collect();
            let data: Vec<_> = call.events.iter().map(|event| &event.data).collect();
            for retries in 0..MOST_TRIES {
                match client.query_one(&append, &[&ids, &data, &call.stream]) {
                    Ok(row) if row.get(0) => return Ok(retries),
                    // Another client was faster on this stream.
                    Ok(_) => {}
                    Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            anyhow::bail!("an append has failed {MOST_TRIES} times")
        }))
    }

    /// With models its own client appends.
    fn session(&self, database: &Database, work: &Append) -> Result<Box<dyn Session>> {
        self.prepare_models(database, work)?;
        match work.models {
            None => Ok(Box::new(Clients::appending(Source::all(work), || self.appender(database, work))?)),
            Some(models) => Ok(Box::new(OwnClient {
                emmett: Self { script: self.script.clone() },
                database: database.clone(),
                clients: work.clients,
                models,
                round: 0,
            })),
        }
    }

    /// What its client sends to read a stream.
    fn reader(&self, database: &Database) -> Result<Reader> {
        let mut client = database.connect()?;
        let read = client.prepare(
            "SELECT stream_id, stream_position, global_position, message_data, message_metadata,
                    message_schema_version, message_type, message_id
               FROM emt_messages WHERE stream_id = $1 AND partition = 'emt:default' AND is_archived = FALSE
              ORDER BY stream_position ASC",
        )?;
        Ok(Box::new(move |stream| Ok(client.query(&read, &[&stream])?.len() as u64)))
    }

    fn fill(&self, database: &Database, log: &Log) -> Result<()> {
        let Log { events, streams, one_in } = log;
        database.execute(&format!(
            "INSERT INTO emt_messages (stream_id, stream_position, partition, message_data, message_metadata,
               message_schema_version, message_type, message_kind, message_id, transaction_id)
             SELECT 'cart-' || (n - 1) % {streams}, (n - 1) / {streams} + 1, 'emt:default', {DATA_SQL}, '{{}}', '1',
               CASE WHEN n % {one_in} = 0 THEN '{TAKEN}' ELSE '{OTHER}' END, 'E', gen_random_uuid()::text,
               pg_current_xact_id()
               FROM generate_series(1, {events}) AS n"
        ))?;
        database.execute("VACUUM (FREEZE, ANALYZE) emt_messages")
    }

    fn rebuilder(&self, database: &Database, work: &Rebuild) -> Result<Box<dyn Rebuilder>> {
        if work.kind != Kind::Fold {
            database.execute(&models::create_table(1))?;
        }
        let emmett = Self { script: self.script.clone() };
        Ok(Box::new(OwnRebuild { emmett, database: database.clone(), kind: work.kind }))
    }
}

struct OwnClient {
    emmett: Emmett,
    database: Database,
    clients: usize,
    models: Models,
    round: u64,
}

/// What one of its clients did.
#[derive(Deserialize)]
struct Appended {
    events: u64,
    micros: Vec<u64>,
    seconds: f64,
}

impl Session for OwnClient {
    fn run(&mut self, window: Window) -> Result<Run> {
        self.round += 1;
        let input = json!({
            "round": self.round, "clients": self.clients,
            "kind": self.models.kind, "count": self.models.count, "taking": self.models.taking,
            "warmUp": window.warm_up.as_millis(), "time": window.time.as_millis(),
        });
        let appended: Vec<Appended> = self.emmett.ask(&self.database, "append", &input)?;
        let mut run = Run { rate: 0.0, latency: histogram()?, events: 0, retries: 0 };
        for client in appended {
            ensure!(client.seconds > 0.0, "Emmett's client has not measured anything");
            run.events += client.events;
            run.rate += client.micros.len() as f64 / client.seconds;
            client.micros.iter().for_each(|&micros| record(&mut run.latency, Duration::from_micros(micros)));
        }
        Ok(run)
    }
}

struct OwnRebuild {
    emmett: Emmett,
    database: Database,
    kind: Kind,
}

#[derive(Deserialize)]
struct Seconds {
    seconds: f64,
}

impl Rebuilder for OwnRebuild {
    fn rebuild(&mut self, version: u32) -> Result<Rebuilt> {
        let input = json!({"kind": self.kind, "version": version});
        let Seconds { seconds } = self.emmett.ask(&self.database, "rebuild", &input)?;
        let time = Duration::try_from_secs_f64(seconds).context("Emmett's client has no clock")?;
        Ok(Rebuilt { time, memory: None })
    }
}
