//! The per-file and per-author models: shown, rebuilt, verified, and checked by plain SQL.

use anyhow::{Context, Result, ensure};
use console::{Alignment, pad_str};
use postgres::Client;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::super::sql_error::explain;
use super::history::Totals;

const CHECK: &str = include_str!("../sql/git_check.sql");
const TOP_FILES: &str = "SELECT path, changes, added, removed FROM file ORDER BY changes DESC, path LIMIT 10";
const TOP_AUTHORS: &str = "SELECT name || ' <' || email || '>', commits, added, removed FROM author ORDER BY commits DESC, email LIMIT 10";

/// The most changed files and the busiest authors, as two tables.
pub fn top(client: &mut Client) -> Result<String> {
    let mut text = String::new();
    for (title, unit, sql) in [("top files", "changes", TOP_FILES), ("top authors", "commits", TOP_AUTHORS)] {
        writeln!(text, "\n{title:<60}{unit:>9}{:>11}{:>11}", "added", "removed")?;
        for row in client.query(sql, &[]).map_err(explain)? {
            let name: String = row.try_get(0)?;
            let name = pad_str(&name, 60, Alignment::Left, Some("… "));
            let (count, added, removed): (i64, i64, i64) =
                (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            writeln!(text, "{name}{count:>9}{added:>11}{removed:>11}")?;
        }
    }
    Ok(text)
}

pub struct Rebuilt {
    pub took: Duration,
    pub gate: Duration,
    pub events: u64,
    pub rows_changed: i64,
}

pub fn rebuild(client: &mut Client, projection: &str) -> Result<Rebuilt> {
    let start = Instant::now();
    let row = client
        .query_one(
            "SELECT events_replayed, (extract(epoch FROM gate_held) * 1e6)::bigint,
                    rows_inserted + rows_updated + rows_deleted
             FROM refold.rebuild_projection($1)",
            &[&projection],
        )
        .map_err(explain)
        .with_context(|| format!("could not rebuild {projection}"))?;
    Ok(Rebuilt {
        took: start.elapsed(),
        events: u64::try_from(row.try_get::<_, i64>(0)?)?,
        gate: Duration::from_micros(u64::try_from(row.try_get::<_, i64>(1)?)?),
        rows_changed: row.try_get(2)?,
    })
}

/// The number of rows in which refold itself finds the model and a fresh fold to differ.
pub fn verify(client: &mut Client, projection: &str) -> Result<i64> {
    let row = client
        .query_one("SELECT count(*) FROM refold.verify_projection($1)", &[&projection])
        .map_err(explain)
        .with_context(|| format!("could not verify {projection}"))?;
    Ok(row.try_get(0)?)
}

/// What plain SQL over log and models says.
#[derive(Debug)]
pub struct Check {
    pub files: u64,
    pub authors: u64,
    wrong_files: i64,
    wrong_authors: i64,
    by_log: (u64, u64),
    by_file: (u64, u64, u64),
    by_author: (u64, u64, u64),
}

impl Check {
    pub fn run(client: &mut Client) -> Result<Self> {
        let row = client.query_one(CHECK, &[]).map_err(explain).context("could not check the models")?;
        let count = |name: &str| anyhow::Ok(u64::try_from(row.try_get::<_, i64>(name)?)?);
        Ok(Self {
            files: count("files")?,
            authors: count("authors")?,
            wrong_files: row.try_get("wrong_files")?,
            wrong_authors: row.try_get("wrong_authors")?,
            by_log: (count("changes")?, count("binary_changes")?),
            by_file: (count("file_changes")?, count("file_added")?, count("file_removed")?),
            by_author: (count("author_changes")?, count("author_added")?, count("author_removed")?),
        })
    }

    /// Fails unless both models equal the log's sums and git's.
    pub fn compare(&self, git: &Totals, streams: u64) -> Result<()> {
        ensure!(self.wrong_files == 0, "{} files differ from the log", self.wrong_files);
        ensure!(self.wrong_authors == 0, "{} authors differ from the log", self.wrong_authors);
        ensure!(self.by_log == (git.changes, git.binary), "the log has {:?}, git {git:?}", self.by_log);
        let lines = (git.changes, git.added, git.removed);
        ensure!(self.by_file == lines, "the files sum up to {:?}, git to {git:?}", self.by_file);
        ensure!(self.by_author == lines, "the authors sum up to {:?}, git to {git:?}", self.by_author);
        ensure!(self.files == streams, "{} rows for {streams} files", self.files);
        Ok(())
    }
}
