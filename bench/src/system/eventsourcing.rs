//! Python's eventsourcing: its SQL function for appends, its own client for a projection, which takes event by event.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Appender, Reader, Rebuilder, Rebuilt, System, peer};
use crate::case::{Append, Case, Kind, Log, Rebuild};
use crate::database::Database;
use crate::events::DATA_SQL;
use crate::models;

pub struct Eventsourcing {
    script: PathBuf,
}

/// As its client names the classes of the script.
const TAKEN_TOPIC: &str = "__main__:ItemAdded";
const OTHER_TOPIC: &str = "__main__:CartViewed";
/// Each event is a transaction: more would take very long.
const MOST_REBUILT: u64 = 10_000;

impl Eventsourcing {
    pub fn new(folder: &Path) -> Self {
        Self { script: folder.join("peer.py") }
    }
}

impl System for Eventsourcing {
    fn name(&self) -> &'static str {
        "eventsourcing"
    }

    fn version(&self) -> String {
        "eventsourcing 9.5.6 (PyPI)".to_owned()
    }

    fn can(&self, case: &Case) -> bool {
        match case {
            Case::Append(Append { models, .. }) => models.is_none(),
            Case::Read(_) => true,
            Case::Rebuild(work) | Case::RebuildMemory(work) => {
                work.kind == Kind::PerEvent && work.log.events <= MOST_REBUILT
            }
            Case::Beside(_) | Case::Stall(_) => false,
        }
    }

    fn install(&self, database: &Database) -> Result<()> {
        peer::ask("python3", &self.script, database, "create", &Value::Null)
    }

    fn log(&self) -> &'static str {
        "SELECT originator_id AS stream_id, CASE topic WHEN '__main__:ItemAdded' THEN 'item_added' ELSE topic END
           AS event_type, convert_from(state, 'UTF8')::jsonb AS data FROM carts_events"
    }

    fn appender(&self, database: &Database, _work: &Append) -> Result<Appender> {
        let mut client = database.connect()?;
        let insert = client.prepare(&format!(
            "SELECT * FROM es_insert_events_text(ARRAY(
               SELECT ROW($1, v, '{TAKEN_TOPIC}', s)::stored_event_text FROM unnest($2::bigint[], $3::bytea[]) AS e (v, s)))"
        ))?;
        Ok(Box::new(move |call| {
            let versions: Vec<_> = (call.version + 1..).take(call.events.len()).collect();
            let states = call.events.iter().map(|event| serde_json::to_vec(&event.data));
            let states = states.collect::<Result<Vec<_>, _>>()?;
            client.query(&insert, &[&call.stream, &versions, &states])?;
            Ok(0)
        }))
    }

    /// What its client sends to read an aggregate's events.
    fn reader(&self, database: &Database) -> Result<Reader> {
        let mut client = database.connect()?;
        let read = client
            .prepare("SELECT * FROM carts_events WHERE originator_id = $1 ORDER BY originator_version ASC")?;
        Ok(Box::new(move |stream| Ok(client.query(&read, &[&stream])?.len() as u64)))
    }

    fn fill(&self, database: &Database, log: &Log) -> Result<()> {
        let Log { events, streams, one_in } = log;
        database.execute(&format!(
            "INSERT INTO carts_events (originator_id, originator_version, topic, state)
             SELECT 'cart-' || (n - 1) % {streams}, (n - 1) / {streams} + 1,
                    CASE WHEN n % {one_in} = 0 THEN '{TAKEN_TOPIC}' ELSE '{OTHER_TOPIC}' END,
                    convert_to({DATA_SQL}::text, 'UTF8')
               FROM generate_series(1, {events}) AS n"
        ))?;
        database.execute("VACUUM (FREEZE, ANALYZE) carts_events")
    }

    fn rebuilder(&self, database: &Database, _work: &Rebuild) -> Result<Box<dyn Rebuilder>> {
        database.execute(&models::create_table(1))?;
        Ok(Box::new(OwnRebuild { script: self.script.clone(), database: database.clone() }))
    }
}

struct OwnRebuild {
    script: PathBuf,
    database: Database,
}

#[derive(Deserialize)]
struct Seconds {
    seconds: f64,
}

impl Rebuilder for OwnRebuild {
    fn rebuild(&mut self, version: u32) -> Result<Rebuilt> {
        let input = json!({ "version": version });
        let Seconds { seconds } = peer::ask("python3", &self.script, &self.database, "rebuild", &input)?;
        let time = Duration::try_from_secs_f64(seconds).context("its client has no clock")?;
        Ok(Rebuilt { time, memory: None })
    }
}
