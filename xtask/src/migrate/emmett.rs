//! Emmett: its own package makes the tables and appends, in its own client.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

use super::refusals::{Refusal, refusal};
use super::source::{EVENTS, NewEvent, Place, STREAMS, Source, Words};
use super::variations::Variation;
use crate::server;

pub struct Emmett {
    pub script: PathBuf,
}

static WORDS: Words = Words {
    table: "public.emt_messages",
    number: "global_position",
    stream: "stream_id",
    version: "stream_position",
    id: "message_id",
    event_type: "message_type",
    data: "message_data",
    metadata: "message_metadata",
    unguard: "SELECT",
};

/// Its own function, into a partition of its own.
macro_rules! in_another_partition {
    () => {
        "SELECT emt_add_partition('shop__acme');
         SELECT emt_append_to_stream(ARRAY[gen_random_uuid()::text], ARRAY['{}'::jsonb], ARRAY['{}'::jsonb], ARRAY['1'],
           ARRAY['opened'], ARRAY['E'], 'cart-1', 'cart', NULL, 'shop__acme')"
    };
}

macro_rules! with_an_archived_stream {
    () => {
        "UPDATE emt_messages SET is_archived = true WHERE stream_id = 'cart-2';
         UPDATE emt_streams SET is_archived = true WHERE stream_id = 'cart-2'"
    };
}

static VARIATIONS: [Variation; 8] = [
    Variation {
        name: "what has no column",
        change: "",
        options: &[],
        copied: EVENTS,
        asked: "SELECT ((metadata->'copied_from') - 'recorded_at')::text FROM refold.event ORDER BY position LIMIT 1",
        answer: r#"{"store": "emmett", "position": 1, "partition": "emt:default", "is_archived": false, "stream_type": "cart", "message_kind": "E", "message_schema_version": "1"}"#,
    },
    // As docs/migrating.md does.
    Variation {
        name: "compared by hand",
        change: "",
        options: &[],
        copied: EVENTS,
        asked: "SELECT count(*)::text FROM (
            (SELECT stream_id, stream_position, message_type, message_data FROM emt_messages
             EXCEPT SELECT stream_id, stream_version, event_type, data FROM refold.event)
            UNION ALL
            (SELECT stream_id, stream_version, event_type, data FROM refold.event WHERE metadata ? 'copied_from'
             EXCEPT SELECT stream_id, stream_position, message_type, message_data FROM emt_messages)) AS d",
        answer: "0",
    },
    Variation {
        name: "ids that are no UUIDs",
        change: "UPDATE <table> SET <id> = 'order 17' WHERE <number> = 7",
        options: &[],
        copied: EVENTS,
        asked: "SELECT metadata->'copied_from'->>'event_id' FROM refold.event WHERE substr(event_id::text, 15, 1) = '8'
                   AND metadata->'copied_from' ? 'event_id'",
        answer: "order 17",
    },
    Variation {
        name: "commands",
        change: "UPDATE <table> SET message_kind = 'C' WHERE <number> = 7",
        options: &[],
        copied: EVENTS,
        asked: "SELECT metadata->'copied_from'->>'position' FROM refold.event WHERE metadata->'copied_from'->>'message_kind' = 'C'",
        answer: "7",
    },
    Variation {
        name: "archived streams, copied",
        change: with_an_archived_stream!(),
        options: &["archived=copy"],
        copied: EVENTS,
        asked: "SELECT string_agg(DISTINCT stream_id, ' ') FROM refold.event WHERE metadata->'copied_from'->'is_archived' = 'true'",
        answer: "cart-2",
    },
    Variation {
        name: "archived streams, left out",
        change: with_an_archived_stream!(),
        options: &["archived=skip"],
        copied: EVENTS - EVENTS / STREAMS,
        asked: "SELECT string_agg(DISTINCT stream_id, ' ') FROM refold.event",
        answer: "cart-0 cart-1 cart-3 cart-4",
    },
    Variation {
        name: "all partitions",
        change: in_another_partition!(),
        options: &["by_tenant=on"],
        copied: EVENTS + 1,
        asked: "SELECT string_agg(DISTINCT stream_id, ' ' ORDER BY stream_id) FROM refold.event WHERE stream_id LIKE '%/cart-1'",
        answer: "emt:default/cart-1 shop__acme/cart-1",
    },
    Variation {
        name: "one partition",
        change: in_another_partition!(),
        options: &["tenant=shop__acme"],
        copied: 1,
        asked: "SELECT concat_ws(' ', stream_id, stream_version) FROM refold.event",
        answer: "cart-1 1",
    },
];

static REFUSALS: [Refusal; 3] = [
    refusal("several partitions", in_another_partition!(), "0A000", "They are emt:default, shop__acme."),
    refusal("archived streams", with_an_archived_stream!(), "0A000", "the old store has archived streams"),
    refusal(
        "no global position",
        "UPDATE <table> SET <number> = NULL WHERE <number> = 7",
        "22004",
        "some events have no global position",
    ),
];

impl Emmett {
    fn ask(&self, place: &Place, task: &str, input: &str) -> Result<()> {
        let mut node = Command::new("node");
        server::name_to(&mut node, place.server, &place.database).arg(&self.script).args([task, input]);
        let output = node.output().context("cannot run node")?;
        ensure!(output.status.success(), "{task}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

impl Source for Emmett {
    fn name(&self) -> &'static str {
        "Emmett"
    }

    fn script(&self) -> &'static str {
        "from_emmett.sql"
    }

    fn create(&self, place: &Place) -> Result<()> {
        self.ask(place, "migrate", "null")
    }

    fn write(&self, place: &Place, events: &[NewEvent]) -> Result<()> {
        let event = |NewEvent { stream, event_type, data, metadata }: &NewEvent| {
            let metadata = metadata.as_deref().unwrap_or("{}");
            format!(
                r#"{{"stream": "{stream}", "type": "{event_type}", "data": {data}, "metadata": {metadata}}}"#
            )
        };
        let events: Vec<_> = events.iter().map(event).collect();
        self.ask(place, "write", &format!("[{}]", events.join(", ")))
    }

    fn append_one(&self, stream: &str) -> String {
        format!(
            "SELECT emt_append_to_stream(ARRAY[gen_random_uuid()::text], ARRAY['{{\"quantity\": 1}}'::jsonb], ARRAY['{{}}'::jsonb],
               ARRAY['1'], ARRAY['item_added'], ARRAY['E'], '{stream}', 'cart', NULL, 'emt:default')"
        )
    }

    fn words(&self) -> &'static Words {
        &WORDS
    }

    fn log(&self) -> String {
        "SELECT ROW(stream_id, stream_position, message_type, message_data, message_metadata, message_id, created, global_position)::text
           FROM emt_messages ORDER BY global_position"
            .to_owned()
    }

    fn variations(&self) -> &'static [Variation] {
        &VARIATIONS
    }

    fn refusals(&self) -> &'static [Refusal] {
        &REFUSALS
    }
}
