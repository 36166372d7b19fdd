//! What cannot be copied: it is refused, in words that say what to do, and the log is as it was.

use anyhow::{Context, Result, ensure};

use super::script::Scripts;
use super::source::{Base, EVENTS, LOG, Place, Source, WHOLE_LOG, require_same};
use crate::crash::explain;

pub struct Refusal {
    pub name: &'static str,
    pub before: Before,
    /// What is done in the database, in the words of `Words`.
    pub change: &'static str,
    pub options: &'static [&'static str],
    pub code: &'static str,
    /// In what is said.
    pub text: &'static str,
}

/// What there is before the script is called that is to refuse.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// All was copied.
    Copy,
    /// All but one stream was copied.
    CopyOfOthers,
    /// Somebody has written to the old store, and not committed.
    Writer,
    /// Another call of a script.
    Migration,
}

pub const fn refusal(
    name: &'static str,
    change: &'static str,
    code: &'static str,
    text: &'static str,
) -> Refusal {
    Refusal { name, before: Before::Nothing, change, options: &[], code, text }
}

/// The third and the fourth event of a stream, and what is done to them.
macro_rules! at_a_stream {
    ($sql:literal) => {
        concat!(
            "<unguard>; CREATE TEMP TABLE chosen AS SELECT <number> AS number, <version> AS version, <stream> AS stream,
                row_number() OVER (ORDER BY <number>) AS nth FROM <table>
                WHERE <stream> = (SELECT <stream> FROM <table> ORDER BY <number> LIMIT 1); ",
            $sql
        )
    };
}

/// Every store's.
static COMMON: [Refusal; 19] = [
    refusal(
        "a hole in a stream",
        at_a_stream!("DELETE FROM <table> WHERE <number> = (SELECT number FROM chosen WHERE nth = 3)"),
        "22023",
        "would be version 4, and comes where 3 should",
    ),
    refusal(
        "a stream without its beginning",
        at_a_stream!("DELETE FROM <table> WHERE <number> = (SELECT number FROM chosen WHERE nth = 1)"),
        "22023",
        "would be version 2, and comes where 1 should",
    ),
    refusal(
        "a stream in another order",
        at_a_stream!(
            "UPDATE <table> SET <version> = -7 WHERE <number> = (SELECT number FROM chosen WHERE nth = 3);
             UPDATE <table> SET <version> = <version> - 1 WHERE <number> = (SELECT number FROM chosen WHERE nth = 4);
             UPDATE <table> SET <version> = (SELECT version FROM chosen WHERE nth = 4) WHERE <version> = -7"
        ),
        "22023",
        "would be version 4, and comes where 3 should",
    ),
    refusal(
        "an id twice",
        "<unguard>; UPDATE <table> SET <id> = (SELECT <id> FROM <table> ORDER BY <number> LIMIT 1)
           WHERE <number> = (SELECT max(<number>) FROM <table>)",
        "23505",
        "two events of the old store have the id",
    ),
    refusal(
        "a payload that is not JSON",
        "ALTER TABLE <table> ALTER COLUMN <data> TYPE bytea USING convert_to(<data>::text, 'UTF8')",
        "0A000",
        "is of type bytea, not jsonb",
    ),
    refusal(
        "a type that is too long",
        "UPDATE <table> SET <type> = repeat('x', 257) WHERE <number> = (SELECT max(<number>) FROM <table>)",
        "54000",
        "a type has at most 256 bytes",
    ),
    refusal(
        "no type",
        "UPDATE <table> SET <type> = '' WHERE <number> = (SELECT max(<number>) FROM <table>)",
        "54000",
        "must not be empty",
    ),
    refusal(
        "metadata with the script's key",
        "UPDATE <table> SET <metadata> = '{\"copied_from\": 1}' WHERE <number> = (SELECT max(<number>) FROM <table>)",
        "23505",
        "has a key copied_from of its own",
    ),
    refusal(
        "a stream of the log's own",
        "SELECT refold.append_event((SELECT <stream>::text FROM <table> LIMIT 1), 'x', '{}')",
        "55000",
        "has events that the old store's has not",
    ),
    refusal(
        "an id of the log's own",
        "SELECT refold.append_event('elsewhere', 'x', '{}', event_id => (SELECT <id>::uuid FROM <table> LIMIT 1))",
        "23505",
        "is in the log as another",
    ),
    Refusal {
        before: Before::Copy,
        ..refusal(
            "changed since it was copied",
            "UPDATE <table> SET <data> = '{\"quantity\": 77}' WHERE <number> = (SELECT max(<number>) FROM <table>)",
            "23505",
            "is in the log as another",
        )
    },
    Refusal {
        before: Before::Copy,
        ..refusal(
            "deleted since it was copied",
            "DELETE FROM <table> WHERE <number> = (SELECT max(<number>) FROM <table>)",
            "55000",
            "has events that the old store's has not",
        )
    },
    Refusal {
        options: &["schema=nowhere"],
        ..refusal("another schema", "", "42P01", "there is no nowhere.")
    },
    Refusal { options: &["late=never"], ..refusal("an option", "", "22023", "never is not a value of the option late") },
    Refusal {
        options: &["archived=perhaps"],
        ..refusal("another option", "", "22023", "perhaps is not a value of the option archived")
    },
    refusal("no refold", "DROP EXTENSION refold", "55000", "refold is not in this database"),
    Refusal { before: Before::CopyOfOthers, ..refusal("late events", "", "55000", "comes too late") },
    Refusal {
        before: Before::Writer,
        options: &["patience=0.2"],
        ..refusal("a writer that does not end", "", "55P03", "by a transaction that does not end")
    },
    Refusal {
        before: Before::Migration,
        options: &["patience=0.2"],
        ..refusal("two at once", "", "55006", "another migration is at work")
    },
];

/// Those of every store, and this one's own.
pub fn all(source: &dyn Source) -> impl Iterator<Item = &'static Refusal> {
    COMMON.iter().chain(source.refusals())
}

impl Refusal {
    pub fn run(&self, base: &Base, scripts: &Scripts) -> Result<()> {
        let source = base.source;
        base.with_copy(|place| {
            let others = format!("except=^{}$", source.stream(0));
            let mut somebody = place.connect()?;
            match self.before {
                Before::Nothing => {}
                Before::Copy => scripts.copy(place, source, &[], EVENTS)?,
                Before::CopyOfOthers => {
                    scripts.run(place, source, &[&others])?;
                }
                Before::Writer => somebody
                    .batch_execute(&format!("BEGIN; {}", source.append_one(&source.stream(901))))
                    .map_err(explain)?,
                Before::Migration => {
                    somebody.batch_execute("SELECT pg_advisory_lock(8390876214023812455)").map_err(explain)?
                }
            }
            place.execute(&source.words().put_into(self.change))?;
            self.expect(place, source, scripts)?;
            if self.before == Before::CopyOfOthers {
                behind_the_others(place, source, scripts)
            } else {
                Ok(())
            }
        })
    }

    fn expect(&self, place: &Place, source: &dyn Source, scripts: &Scripts) -> Result<()> {
        let has_log = place.lines("SELECT coalesce(to_regclass('refold.event')::text, '')")? != [""];
        let log = || if has_log { place.lines(WHOLE_LOG) } else { Ok(Vec::new()) };
        let before = log()?;
        let refused = scripts.refuse(place, source, self.options, self.code)?;
        ensure!(refused.text.contains(self.text), "it does not say {:?}:\n{}", self.text, refused.text);
        ensure!(refused.text.contains("\nHINT:  "), "it does not say what to do:\n{}", refused.text);
        require_same("log", &before, &log()?)
    }
}

/// What comes too late is copied where that is asked for: all is there then, not in one order.
fn behind_the_others(place: &Place, source: &dyn Source, scripts: &Scripts) -> Result<()> {
    let late = format!("SELECT count(*)::text FROM <table> WHERE <stream>::text = '{}'", source.stream(0));
    let late = place.lines(&source.words().put_into(&late))?;
    scripts.copy(place, source, &["late=append"], late.first().context("no count")?.parse()?)?;
    let sorted = |sql: &str| format!("SELECT l FROM ({sql}) AS t (l) ORDER BY l COLLATE \"C\"");
    place.require_same("log", &sorted(&source.log()), &sorted(LOG))?;
    ensure!(place.lines(&source.log())? != place.lines(LOG)?, "nothing was late");
    Ok(())
}
