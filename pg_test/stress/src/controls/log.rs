//! A log that is not what its clients were told: written as they were told, then changed behind their backs.

use anyhow::{Context, Result, bail, ensure};
use postgres::Config;
use std::time::Duration;

use super::append_for;
use crate::final_checks;
use crate::ledger::Outcome;
use crate::session::explain;
use crate::shared::Shared;
use crate::world::{connect, set_up};

/// What is wrong, the SQL that makes it so with the transaction $1 of several events, and what must be said of it.
struct Change {
    what: &'static str,
    /// What the client of the transaction is taken to know.
    outcome: Outcome,
    sql: &'static str,
    found: &'static str,
}

const CHANGES: [Change; 8] = [
    Change {
        what: "an acknowledged append is missing",
        outcome: Outcome::Committed,
        sql: "DELETE FROM refold.event WHERE metadata->>'tx' = $1",
        found: "(Committed): told",
    },
    Change {
        what: "half of an acknowledged append is missing",
        outcome: Outcome::Committed,
        sql: "DELETE FROM refold.event WHERE position = (SELECT max(position) FROM refold.event WHERE metadata->>'tx' = $1)",
        found: "(Committed): told",
    },
    Change {
        what: "half of an append is there of which nobody was told",
        outcome: Outcome::Unknown,
        sql: "DELETE FROM refold.event WHERE position = (SELECT max(position) FROM refold.event WHERE metadata->>'tx' = $1)",
        found: "(Unknown): half of it",
    },
    Change {
        what: "an append is there that was rolled back",
        outcome: Outcome::RolledBack,
        sql: "SELECT $1::text",
        found: "(RolledBack): the log has",
    },
    Change {
        what: "an event is doubled",
        outcome: Outcome::Committed,
        sql: "INSERT INTO refold.event (stream_id, stream_version, event_type, data, metadata, event_id, horizon)
              SELECT stream_id, (SELECT max(stream_version) + 1 FROM refold.event o WHERE o.stream_id = e.stream_id),
                     event_type, data, metadata, gen_random_uuid(), horizon
              FROM refold.event e WHERE metadata->>'tx' = $1 LIMIT 1",
        found: "(Committed): told",
    },
    Change {
        what: "an event has another position than was told",
        outcome: Outcome::Committed,
        sql: "UPDATE refold.event SET position = DEFAULT
              WHERE position = (SELECT max(position) FROM refold.event WHERE metadata->>'tx' = $1)",
        found: "(Committed): told position",
    },
    Change {
        what: "a version is skipped",
        outcome: Outcome::Committed,
        sql: "UPDATE refold.event SET stream_version = stream_version + 1 WHERE $1 <> '' AND position =
              (SELECT max(position) FROM refold.event)",
        found: "after version",
    },
    Change {
        what: "nobody has appended an event",
        outcome: Outcome::Committed,
        sql: "UPDATE refold.event SET metadata = '{}' WHERE metadata->>'tx' = $1",
        found: "nobody appended",
    },
];

pub fn not_as_told(config: &Config) -> Result<()> {
    set_up(config)?;
    let shared = Shared::new(config, 1);
    append_for(&shared, Duration::from_millis(1500))?;
    let mut client = connect(config)?;
    final_checks::check_log(&shared, &mut client).context("before anything is changed")?;
    let several = shared
        .ledger()
        .iter()
        .position(|entry| entry.outcome == Outcome::Committed && entry.events.first() != entry.events.last());
    let several = several.context("no transaction has several events")?;
    for Change { what, outcome, sql, found } in CHANGES {
        let tag = {
            let mut ledger = shared.ledger();
            let entry = ledger.get_mut(several).context("the ledger has shrunk")?;
            entry.outcome = outcome;
            entry.tag.clone()
        };
        let mut transaction = client.transaction().map_err(explain)?;
        transaction.batch_execute("ALTER TABLE refold.event DISABLE TRIGGER ALL").map_err(explain)?;
        ensure!(transaction.execute(sql, &[&tag]).map_err(explain)? > 0, "{what}: nothing changed");
        match final_checks::check_log(&shared, &mut transaction) {
            Ok(_) => bail!("not found: {what}"),
            Err(error) => ensure!(format!("{error:#}").contains(found), error.context(what)),
        }
        transaction.rollback().map_err(explain)?;
    }
    Ok(())
}
