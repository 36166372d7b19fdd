//! The read model of every system: a row for each cart, with the number of its items and their price.
//!
//! A handler has two versions, of which the second doubles the totals: a rebuild from one to the other changes all rows.

use anyhow::{Result, ensure};

use crate::case::Kind;
use crate::database::Database;
use crate::events::TAKEN;

pub fn table(number: usize) -> String {
    format!("cart_{number}")
}

pub fn create_table(number: usize) -> String {
    let table = table(number);
    format!("CREATE TABLE {table} (cart_id text PRIMARY KEY, items bigint NOT NULL, total numeric NOT NULL);")
}

/// The name of a handler.
pub fn handler(kind: Kind, number: usize, version: u32) -> String {
    let kind = match kind {
        Kind::Fold => "fold",
        Kind::PerEvent => "event",
        Kind::PerBatch => "batch",
    };
    format!("{kind}_cart_{number}_v{version}")
}

/// A handler as refold takes it, with what `regprocedure` wants; `event` is the row type of the log.
pub fn create_handler(kind: Kind, number: usize, version: u32, event: &str) -> (String, String) {
    let (name, table) = (handler(kind, number, version), table(number));
    match kind {
        Kind::Fold => (
            format!("{name}({table}, {event})"),
            format!(
                "CREATE FUNCTION {name}(state {table}, event {event}) RETURNS {table} LANGUAGE plpgsql AS $$
                 DECLARE
                   quantity bigint := event.data->>'quantity';
                 BEGIN
                   RETURN ROW(event.stream_id, coalesce(state.items, 0) + quantity, coalesce(state.total, 0)
                              + quantity * (event.data->>'price')::numeric * {version})::{table};
                 END $$;"
            ),
        ),
        Kind::PerEvent => (
            format!("{name}({event})"),
            format!(
                "CREATE FUNCTION {name}(event {event}) RETURNS void LANGUAGE plpgsql AS $$
                 BEGIN
                   {};
                 END $$;",
                upsert(number, version, "event.stream_id", "event.data", "")
            ),
        ),
        Kind::PerBatch => (
            format!("{name}({event}[])"),
            format!(
                "CREATE FUNCTION {name}(events {event}[]) RETURNS void LANGUAGE plpgsql AS $$
                 BEGIN
                   INSERT INTO {table} AS c {} {};
                 END $$;",
                summed("unnest(events) AS e", version),
                on_conflict()
            ),
        ),
    }
}

/// The statement by hand that applies one event, which `from` holds unless it is empty.
pub fn upsert(number: usize, version: u32, stream: &str, data: &str, from: &str) -> String {
    let table = table(number);
    format!(
        "INSERT INTO {table} AS c SELECT {stream}, ({data}->>'quantity')::bigint,
           ({data}->>'quantity')::bigint * ({data}->>'price')::numeric * {version} {from} {}",
        on_conflict()
    )
}

/// Some events, each cart's summed up.
pub fn summed(events: &str, version: u32) -> String {
    format!(
        "SELECT e.stream_id, sum((e.data->>'quantity')::bigint),
                sum((e.data->>'quantity')::bigint * (e.data->>'price')::numeric * {version})
           FROM {events} GROUP BY e.stream_id"
    )
}

fn on_conflict() -> &'static str {
    "ON CONFLICT (cart_id) DO UPDATE SET items = c.items + excluded.items, total = c.total + excluded.total"
}

/// Fails unless `model`, a query of (cart_id, items, total), is what `log`, a query of (stream_id, event_type, data),
/// sums up to, and has rows.
pub fn check(database: &Database, model: &str, log: &str, version: u32) -> Result<()> {
    let expected = summed(&format!("({log}) AS e WHERE e.event_type = '{TAKEN}'"), version);
    let rows = database.number(&format!("SELECT count(*) FROM ({model}) AS m"))?;
    ensure!(rows > 0, "the model in {} is empty: {model}", database.name);
    let differing = database.number(&format!(
        "SELECT count(*) FROM ((({model}) EXCEPT ALL ({expected})) UNION ALL (({expected}) EXCEPT ALL ({model}))) AS d"
    ))?;
    ensure!(
        differing == 0,
        "{differing} rows of the model in {} are not what its log says: {model}",
        database.name
    );
    Ok(())
}
