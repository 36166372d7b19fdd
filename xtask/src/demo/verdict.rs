//! The verdict on a run: what plain SQL finds when it compares the log, the models and what the clients were told.

use anyhow::{Context, Result};
use indicatif::HumanCount;
use postgres::{Client, Config};
use std::fmt;
use std::io::Write as _;

use super::load::Outcome;
use super::protocol::{Protocol, connect};
use super::sql_error::explain;
use super::stats::Numbers;
use super::view::{millis, per_second};

const VERDICT: &str = include_str!("sql/verdict.sql");

/// Counts, all of which but the first four are faults.
#[derive(Debug)]
pub struct Verdict {
    pub protocol: Protocol,
    pub events: i64,
    pub acknowledged: i64,
    pub per_second: u64,
    pub numbers: Numbers,
    /// Acknowledged to a client, but not in the log.
    pub acknowledged_missing: i64,
    /// In the log, but no client was told.
    pub never_acknowledged: i64,
    /// Events in the log and missing from a finished model, at the end or before one of the rebuilds.
    pub lost: i64,
    pub lost_at_end: i64,
    pub lossy_passes: i64,
    pub passes: i32,
    pub doubled: i64,
    /// In a model, but not in the log.
    pub invented: i64,
    pub out_of_order: i64,
    /// Rows that differ from what plain SQL makes of the log.
    pub wrong_rows: i64,
}

impl Verdict {
    /// Reaches the verdict on the run that left `outcome` in the database of `config`.
    pub fn reach(config: &Config, outcome: &Outcome) -> Result<Self> {
        let mut client = connect(config)?;
        store_acknowledged(&mut client, &outcome.acknowledged)?;
        let [cart, sku_sales] = outcome.rebuilt.versions;
        let last_pass = outcome.rebuilt.next_pass - 1;
        let row = client
            .query_one(VERDICT, &[&cart, &sku_sales, &last_pass])
            .map_err(explain)
            .context("could not compare the models with the log")?;
        let count = |name: &str| row.try_get::<_, i64>(name);
        Ok(Self {
            protocol: outcome.protocol,
            events: count("events")?,
            acknowledged: count("acknowledged")?,
            per_second: per_second(outcome.numbers.appends, outcome.elapsed),
            numbers: outcome.numbers.clone(),
            acknowledged_missing: count("acknowledged_missing")?,
            never_acknowledged: count("never_acknowledged")?,
            lost: count("lost")?,
            lost_at_end: count("lost_at_end")?,
            lossy_passes: count("lossy_passes")?,
            passes: last_pass + 1,
            doubled: count("doubled")?,
            invented: count("invented")?,
            out_of_order: count("out_of_order")?,
            wrong_rows: count("wrong_carts")? + count("wrong_skus")?,
        })
    }

    /// What is wrong: nothing, if the models are the fold of the log, and the log what the clients were told.
    pub fn faults(&self) -> Vec<String> {
        let counts = [
            (self.lost, "events lost from a model"),
            (self.doubled, "events applied twice"),
            (self.out_of_order, "events applied out of order"),
            (self.invented, "events applied that are not in the log"),
            (self.acknowledged_missing, "acknowledged events missing from the log"),
            (self.never_acknowledged, "events in the log that no client was told of"),
            (self.wrong_rows, "rows that differ from the log's own sums"),
            (
                self.numbers.torn_looks.try_into().unwrap_or(i64::MAX),
                "snapshots in which model and log differ",
            ),
        ];
        counts
            .iter()
            .filter(|(count, _)| *count != 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect()
    }

    fn has_lost(&self) -> String {
        format!("{} lost {} of {} events", self.protocol.title(), comma(self.lost), comma(self.events))
    }
}

fn store_acknowledged(client: &mut Client, positions: &[i64]) -> Result<()> {
    let mut writer = client.copy_in("COPY acknowledged FROM STDIN").map_err(explain)?;
    for position in positions {
        writeln!(writer, "{position}")?;
    }
    writer.finish().map_err(explain).context("a position was acknowledged twice, or could not be stored")?;
    Ok(())
}

/// Both verdicts, side by side.
pub struct Comparison<'a> {
    pub refold: &'a Verdict,
    pub published: &'a Verdict,
}

impl fmt::Display for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let both = [self.refold, self.published];
        let mut line = |label: &str, cell: &dyn Fn(&Verdict) -> String| {
            writeln!(f, "{label:<46}{:>12}{:>16}", cell(both[0]), cell(both[1]))
        };
        line("", &|v| if v.protocol == Protocol::Refold { "refold" } else { "published" }.to_owned())?;
        line("events acknowledged to the clients", &|v| comma(v.acknowledged))?;
        line("events in the log", &|v| comma(v.events))?;
        line("acknowledged, missing from the log", &|v| comma(v.acknowledged_missing))?;
        line("in the log, never acknowledged", &|v| comma(v.never_acknowledged))?;
        line("events lost from a finished model", &|v| comma(v.lost))?;
        line("  of these still missing at the end", &|v| comma(v.lost_at_end))?;
        line("  checks that found some lost", &|v| format!("{} of {}", v.lossy_passes, v.passes))?;
        line("events applied twice", &|v| comma(v.doubled))?;
        line("events applied out of order or made up", &|v| comma(v.out_of_order + v.invented))?;
        line("rows that differ from the log's own sums", &|v| comma(v.wrong_rows))?;
        line("reader's looks at model and log that differ", &|v| {
            format!("{} of {}", v.numbers.torn_looks, v.numbers.looks)
        })?;
        line("rebuilds", &|v| comma(v.numbers.rebuilds.done))?;
        line("longest gate", &|v| match v.protocol {
            Protocol::Refold => millis(v.numbers.rebuilds.longest_gate),
            Protocol::Published => "none".to_owned(),
        })?;
        line("appends per second", &|v| HumanCount(v.per_second).to_string())?;
        line("append p50", &|v| millis(v.numbers.p50))?;
        line("append p99", &|v| millis(v.numbers.p99))?;
        line("append longest", &|v| millis(v.numbers.longest))?;
        if self.published.lost == 0 {
            writeln!(f, "\nthe published protocol lost nothing in this run: its blind spot was not hit")?;
        }
        write!(f, "\n{}; {}", self.refold.has_lost(), self.published.has_lost())
    }
}

fn comma(count: impl TryInto<u64>) -> String {
    count.try_into().map_or_else(|_| "?".to_owned(), |count| HumanCount(count).to_string())
}
