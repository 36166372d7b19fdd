//! `cargo xtask demo --git`: a git repository's history as a log. Each file is a stream, each commit's change to it an
//! event; one fold keeps a row per file, another, by a key of its own, a row per author.

mod history;
mod models;
mod replay;
mod sample;
mod streams;

pub use sample::{empty_repository, sample_repository};

use anyhow::{Context, Result, ensure};
use indicatif::HumanCount;
use postgres::Config;
use std::path::Path;

use super::protocol::connect;
use super::sql_error::explain;
use super::view::{millis, per_second};
use history::Repository;
use models::Check;

const SETUP: &str = include_str!("../sql/git.sql");

/// Replays the history of `repository` into an empty database, rebuilds both models, and compares them with the log
/// and with git's own sums. What there is to tell goes to `say`.
pub fn run(config: &Config, path: &Path, say: impl Fn(String)) -> Result<()> {
    let repository =
        Repository::open(path).with_context(|| format!("cannot read a history from {}", path.display()))?;
    let mut client = connect(config)?;
    for script in ["CREATE EXTENSION refold", SETUP] {
        client.batch_execute(script).map_err(explain).context("could not set up the models")?;
    }

    let replayed = replay::replay(&mut client, &repository)?;
    say(format!(
        "{} events of {} files from {} commits appended in {}: {} events/s, with both models kept up to date",
        HumanCount(replayed.totals.changes),
        HumanCount(replayed.streams),
        HumanCount(repository.commits),
        millis(replayed.took),
        HumanCount(per_second(replayed.totals.changes, replayed.took))
    ));
    say(models::top(&mut client)?);

    for projection in ["file", "author"] {
        let rebuilt = models::rebuild(&mut client, projection)?;
        say(format!(
            "rebuilt {projection}: {} events in {} ({} events/s), gate held {}",
            HumanCount(rebuilt.events),
            millis(rebuilt.took),
            HumanCount(per_second(rebuilt.events, rebuilt.took)),
            millis(rebuilt.gate)
        ));
        // The same handler again: a rebuild must find nothing to change.
        ensure!(rebuilt.rows_changed == 0, "rebuilding {projection} changed {} rows", rebuilt.rows_changed);
        let differing = models::verify(&mut client, projection)?;
        ensure!(differing == 0, "verify_projection finds {differing} rows of {projection} that differ");
    }

    let check = Check::run(&mut client)?;
    let totals = repository.totals()?;
    ensure!(
        replayed.totals == totals,
        "the history was read wrongly: {:?} events, but git sums up to {totals:?}",
        replayed.totals
    );
    check.compare(&totals, replayed.streams)?;
    say(format!(
        "verified: {} files, {} authors, {} changes, {} lines added, {} removed, {} changes to binary files;\n\
         both models equal a fresh fold, plain SQL over the log, and git's own sums",
        HumanCount(check.files),
        HumanCount(check.authors),
        HumanCount(totals.changes),
        HumanCount(totals.added),
        HumanCount(totals.removed),
        HumanCount(totals.binary)
    ));
    Ok(())
}
