//! message-db: its own package, installed by its own script and written to by its own function.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

use super::refusals::Refusal;
use super::source::{EVENTS, NewEvent, Place, Source, Words};
use super::variations::Variation;
use crate::crash::explain;
use crate::server;

pub struct MessageDb {
    pub installer: PathBuf,
}

static WORDS: Words = Words {
    table: "message_store.messages",
    number: "global_position",
    stream: "stream_name",
    version: "position",
    id: "id",
    event_type: "type",
    data: "data",
    metadata: "metadata",
    unguard: "DROP INDEX message_store.messages_id; DROP INDEX message_store.messages_stream",
};

static VARIATIONS: [Variation; 3] = [
    Variation {
        name: "what has no column",
        change: "",
        options: &[],
        copied: EVENTS,
        asked: "SELECT ((metadata->'copied_from') - 'recorded_at')::text FROM refold.event ORDER BY position LIMIT 1",
        answer: r#"{"store": "message-db", "position": 1}"#,
    },
    Variation {
        name: "no data",
        change: "SET search_path = message_store, public;
                 SELECT write_message(gen_random_uuid()::text, 'empty-1', 'emptied', NULL)",
        options: &[],
        copied: EVENTS + 1,
        asked: "SELECT concat_ws(' ', data, stream_version) FROM refold.event WHERE stream_id = 'empty-1'",
        answer: "null 1",
    },
    Variation {
        name: "metadata that is no object",
        change: "UPDATE <table> SET metadata = '[1, 2]' WHERE <number> = 7",
        options: &[],
        copied: EVENTS,
        asked: "SELECT ((metadata->'copied_from') - 'recorded_at')::text FROM refold.event WHERE metadata->'copied_from' ? 'metadata'",
        answer: r#"{"store": "message-db", "metadata": [1, 2], "position": 7}"#,
    },
];

impl Source for MessageDb {
    fn name(&self) -> &'static str {
        "message-db"
    }

    fn script(&self) -> &'static str {
        "from_message_db.sql"
    }

    fn create(&self, place: &Place) -> Result<()> {
        let mut installer = Command::new("bash");
        let output =
            server::name_to(&mut installer, place.server, &place.database).arg(&self.installer).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn write(&self, place: &Place, events: &[NewEvent]) -> Result<()> {
        let mut client = place.connect()?;
        client.batch_execute("SET search_path = message_store, public").map_err(explain)?;
        let write = "SELECT write_message(gen_random_uuid()::text, $1::text, $2::text, $3::text::jsonb, $4::text::jsonb)";
        let write = client.prepare(write).map_err(explain).context("message-db is not there")?;
        for NewEvent { stream, event_type, data, metadata } in events {
            client.execute(&write, &[stream, event_type, data, metadata]).map_err(explain)?;
        }
        Ok(())
    }

    // Writers of one category take turns.
    fn append_one(&self, stream: &str) -> String {
        format!(
            "SET search_path = message_store, public;
             SELECT write_message(gen_random_uuid()::text, '{stream}', 'item_added', '{{\"quantity\": 1}}')"
        )
    }

    fn stream(&self, number: usize) -> String {
        format!("cart{}-{number}", number % 7)
    }

    fn words(&self) -> &'static Words {
        &WORDS
    }

    fn log(&self) -> String {
        "SELECT ROW(stream_name, position + 1, type, data, coalesce(metadata, '{}'), id, time AT TIME ZONE 'UTC', global_position)::text
           FROM message_store.messages ORDER BY global_position"
            .to_owned()
    }

    fn variations(&self) -> &'static [Variation] {
        &VARIATIONS
    }

    fn refusals(&self) -> &'static [Refusal] {
        &[]
    }
}
