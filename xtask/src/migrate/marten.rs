//! Marten: a library of .NET, which is not installed here. Its tables are made by their definition, and written to as its
//! client does.

use anyhow::Result;

use super::refusals::{Refusal, refusal};
use super::source::{EVENTS, NewEvent, Place, STREAMS, Source, Words};
use super::variations::Variation;
use crate::crash::explain;

const TABLES: &str = include_str!("marten.sql");

/// With one kind of names for streams.
pub struct Marten {
    name: &'static str,
    id_type: &'static str,
    schema: &'static str,
    /// Whether the columns are there that its configuration can switch on.
    has_metadata: bool,
    words: &'static Words,
}

/// As Marten is by default.
pub const GUIDS: Marten = Marten {
    name: "Marten, GUIDs",
    id_type: "uuid",
    schema: "public",
    has_metadata: false,
    words: &Words {
        table: "public.mt_events",
        unguard: "DROP INDEX public.pk_mt_events_stream_and_version",
        ..COLUMNS
    },
};

/// With all that can be switched on, in a schema whose name must be quoted.
pub const STRINGS: Marten = Marten {
    name: "Marten, strings",
    id_type: "varchar",
    schema: "\"My Events\"",
    has_metadata: true,
    words: &Words {
        table: "\"My Events\".mt_events",
        metadata: "headers",
        unguard: "DROP INDEX \"My Events\".pk_mt_events_stream_and_version",
        ..COLUMNS
    },
};

const COLUMNS: Words = Words {
    table: "",
    number: "seq_id",
    stream: "stream_id",
    version: "version",
    id: "id",
    event_type: "type",
    data: "data",
    metadata: "",
    unguard: "",
};

static VARIATIONS: [Variation; 9] = [
    Variation {
        name: "what has no column",
        change: "",
        options: &[],
        copied: EVENTS,
        asked: "SELECT ((metadata->'copied_from') - 'recorded_at')::text FROM refold.event ORDER BY position LIMIT 1",
        answer: r#"{"store": "marten", "position": 1, "tenant_id": "*DEFAULT*", "is_archived": false, "stream_type": "cart", "mt_dotnet_type": "Shop.Events.Cart, Shop"}"#,
    },
    Variation {
        name: "the script's key is taken",
        change: "UPDATE <table> SET headers = '{\"copied_from\": 1}' WHERE seq_id = 7",
        options: &["metadata_key=origin"],
        copied: EVENTS,
        asked: "SELECT concat_ws(' ', metadata->'copied_from', metadata->'origin'->'position') FROM refold.event
                 WHERE metadata ? 'copied_from'",
        answer: "1 7",
    },
    Variation {
        name: "Marten's own events",
        change: "INSERT INTO \"My Events\".mt_streams (id, version) VALUES ('mt_tombstone', 0), ('grave', 1);
                 INSERT INTO <table> (seq_id, id, stream_id, version, data, type, mt_dotnet_type)
                 SELECT nextval('\"My Events\".mt_events_sequence'), gen_random_uuid(), t.stream, t.version, '{}', 'tombstone', t.dotnet
                   FROM (VALUES ('mt_tombstone', 7, 'Marten.Events.Operations.Tombstone, Marten'),
                                ('mt_tombstone', 9, 'JasperFx.Events.Tombstone, JasperFx.Events'),
                                ('grave', 1, 'Shop.Events.Tombstone, Shop')) AS t (stream, version, dotnet)",
        options: &[],
        copied: EVENTS + 1,
        asked: "SELECT string_agg(stream_id, ' ') FROM refold.event WHERE event_type = 'tombstone'",
        answer: "grave",
    },
    Variation {
        name: "archived streams, copied",
        change: "UPDATE <table> SET is_archived = true WHERE stream_id LIKE 'cart 2 %'",
        options: &["archived=copy"],
        copied: EVENTS,
        asked: "SELECT string_agg(DISTINCT stream_id, ' ') FROM refold.event WHERE metadata->'copied_from'->'is_archived' = 'true'",
        answer: "cart 2 of \"København\"",
    },
    Variation {
        name: "archived streams, left out",
        change: "UPDATE <table> SET is_archived = true WHERE stream_id LIKE 'cart 2 %'",
        options: &["archived=skip"],
        copied: EVENTS - EVENTS / STREAMS,
        asked: "SELECT string_agg(DISTINCT left(stream_id, 6), ' ') FROM refold.event",
        answer: "cart 0 cart 1 cart 3 cart 4",
    },
    Variation {
        name: "some streams only",
        change: "",
        options: &["only=^cart [123] ", "except= 2 "],
        copied: 2 * EVENTS / STREAMS,
        asked: "SELECT string_agg(DISTINCT left(stream_id, 6), ' ') FROM refold.event",
        answer: "cart 1 cart 3",
    },
    Variation {
        name: "all tenants",
        change: "UPDATE <table> SET tenant_id = 'acme' WHERE stream_id LIKE 'cart 2 %'",
        options: &["by_tenant=on"],
        copied: EVENTS,
        asked: "SELECT string_agg(DISTINCT left(stream_id, 16), ' ' ORDER BY left(stream_id, 16)) FROM refold.event WHERE stream_id ~ 'cart [12]'",
        answer: "*DEFAULT*/cart 1 acme/cart 2 of \"",
    },
    Variation {
        name: "one tenant",
        change: "UPDATE <table> SET tenant_id = 'acme' WHERE stream_id LIKE 'cart 2 %'",
        options: &["tenant=acme"],
        copied: EVENTS / STREAMS,
        asked: "SELECT string_agg(DISTINCT stream_id, ' ') FROM refold.event",
        answer: "cart 2 of \"København\"",
    },
    Variation {
        name: "a tenant that counts for itself",
        change: "ALTER TABLE <table> DROP CONSTRAINT pkey_mt_events_seq_id;
                 UPDATE <table> SET tenant_id = 'acme', seq_id = version WHERE stream_id LIKE 'cart 2 %';
                 CREATE SEQUENCE \"My Events\".mt_events_sequence_acme;
                 SELECT setval('\"My Events\".mt_events_sequence_acme', 100)",
        options: &["tenant=acme", "sequence=mt_events_sequence_acme"],
        copied: EVENTS / STREAMS,
        asked: "SELECT string_agg(DISTINCT stream_id, ' ') FROM refold.event",
        answer: "cart 2 of \"København\"",
    },
];

static REFUSALS: [Refusal; 4] = [
    refusal(
        "several tenants",
        "UPDATE <table> SET tenant_id = 'acme' WHERE <number> = 1",
        "0A000",
        "They are *DEFAULT*, acme.",
    ),
    refusal(
        "archived streams",
        "UPDATE <table> SET is_archived = true WHERE <number> = 1",
        "0A000",
        "the old store has archived streams",
    ),
    refusal(
        "a binary payload",
        "ALTER TABLE <table> ADD COLUMN bdata bytea; UPDATE <table> SET data = '{}', bdata = '\\x01' WHERE <number> = 9",
        "22004",
        "has no payload that is JSON",
    ),
    Refusal {
        options: &["by_tenant=on"],
        ..refusal(
            "tenants that count for themselves",
            "ALTER TABLE <table> DROP CONSTRAINT pkey_mt_events_seq_id;
             UPDATE <table> SET tenant_id = 'acme', seq_id = 3 WHERE <number> = 9",
            "0A000",
            "two events of the old store have the number 3",
        )
    },
];

impl Source for Marten {
    fn name(&self) -> &'static str {
        self.name
    }

    fn script(&self) -> &'static str {
        "from_marten.sql"
    }

    fn options(&self) -> &'static [&'static str] {
        if self.has_metadata { &["schema=My Events"] } else { &[] }
    }

    fn is_second_of_its_kind(&self) -> bool {
        !self.has_metadata
    }

    fn create(&self, place: &Place) -> Result<()> {
        let metadata = [
            ("<metadata columns>", "correlation_id varchar, causation_id varchar, headers jsonb,"),
            ("<metadata names>", ", correlation_id, headers"),
            ("<metadata values>", ", 'correlation of ' || stream, metadata::jsonb"),
        ];
        let words = [("<schema>", self.schema), ("<id type>", self.id_type)];
        let tables = words.iter().fold(TABLES.to_owned(), |sql, (word, own)| sql.replace(word, own));
        let tables = metadata
            .iter()
            .fold(tables, |sql, (word, own)| sql.replace(word, if self.has_metadata { own } else { "" }));
        place.execute(&tables)
    }

    fn write(&self, place: &Place, events: &[NewEvent]) -> Result<()> {
        let mut client = place.connect()?;
        let append = format!("SELECT {}.append_one($1, $2, $3, $4)", self.schema);
        let append = client.prepare(&append).map_err(explain)?;
        for NewEvent { stream, event_type, data, metadata } in events {
            client.execute(&append, &[stream, event_type, data, metadata]).map_err(explain)?;
        }
        Ok(())
    }

    fn append_one(&self, stream: &str) -> String {
        format!("SELECT {}.append_one('{stream}', 'item_added', '{{\"quantity\": 1}}', NULL)", self.schema)
    }

    fn stream(&self, number: usize) -> String {
        if self.id_type == "uuid" {
            format!("00000000-0000-4000-8000-{number:012}")
        } else {
            format!("cart {number} of \"København\"")
        }
    }

    fn words(&self) -> &'static Words {
        self.words
    }

    fn log(&self) -> String {
        let metadata = if self.has_metadata {
            "coalesce(headers, '{}') || jsonb_build_object('correlation_id', correlation_id)"
        } else {
            "'{}'::jsonb"
        };
        format!(
            "SELECT ROW(stream_id::text, version, type, data, {metadata}, id, timestamp, seq_id)::text
               FROM {}.mt_events ORDER BY seq_id",
            self.schema
        )
    }

    fn variations(&self) -> &'static [Variation] {
        &VARIATIONS
    }

    fn refusals(&self) -> &'static [Refusal] {
        &REFUSALS
    }
}
