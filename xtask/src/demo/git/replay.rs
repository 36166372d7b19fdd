//! Appends a history to the log, in chunks of many commits: one statement a chunk, one `append_events` a stream.

use anyhow::{Context, Result};
use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use postgres::{Client, Statement};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::super::sql_error::explain;
use super::history::{Change, Commit, Kind, Reader, Repository, Totals};
use super::streams::Streams;

const APPEND: &str = include_str!("../sql/git_append.sql");
/// Events in a chunk; the last commit may bring more.
const CHUNK: usize = 2000;

pub struct Replayed {
    pub took: Duration,
    pub totals: Totals,
    pub streams: u64,
}

/// Appends the whole history, and sums up what was appended.
pub fn replay(client: &mut Client, repository: &Repository) -> Result<Replayed> {
    let append = client.prepare(APPEND).map_err(explain)?;
    let mut reader = Reader::open(repository)?;
    let (mut streams, mut totals, mut chunk) = (Streams::default(), Totals::default(), Chunk::default());
    let progress = progress_bar(repository.commits);
    let start = Instant::now();
    while let Some(commit) = reader.next_commit()? {
        for (index, change) in commit.changes.iter().enumerate() {
            add(&mut totals, change);
            chunk.push(streams.assign(change), event(&commit, change, index == 0));
        }
        if chunk.events >= CHUNK {
            let last = commit.id.as_str();
            chunk.append(client, &append).with_context(|| format!("in the commits up to {last}"))?;
        }
        progress.inc(1);
    }
    chunk.append(client, &append).context("in the last commits")?;
    let took = start.elapsed();
    progress.finish_and_clear();
    Ok(Replayed { took, totals, streams: streams.len() as u64 })
}

/// Events by stream, the streams in the order in which they came up.
#[derive(Default)]
struct Chunk {
    events: usize,
    places: HashMap<String, usize>,
    streams: Vec<String>,
    arrays: Vec<Vec<Value>>,
}

impl Chunk {
    fn push(&mut self, stream: String, event: Value) {
        let place = *self.places.entry(stream).or_insert_with_key(|stream| {
            self.streams.push(stream.clone());
            self.arrays.push(Vec::new());
            self.arrays.len() - 1
        });
        self.arrays[place].push(event);
        self.events += 1;
    }

    /// Appends what was collected and leaves nothing.
    fn append(&mut self, client: &mut Client, append: &Statement) -> Result<()> {
        let chunk = std::mem::take(self);
        let arrays: Vec<String> =
            chunk.arrays.into_iter().map(|events| Value::Array(events).to_string()).collect();
        client.execute(append, &[&chunk.streams, &arrays]).map_err(explain)?;
        Ok(())
    }
}

fn event(commit: &Commit, change: &Change, opens_commit: bool) -> Value {
    let kind = match change.kind {
        Kind::Added => "file_added",
        Kind::Changed => "file_changed",
        Kind::Deleted => "file_deleted",
        Kind::Renamed { .. } => "file_renamed",
    };
    let mut data = json!({
        "commit": commit.id,
        "opens_commit": opens_commit,
        "subject": commit.subject,
        "author": commit.author,
        "email": commit.email,
        "time": commit.time,
        "path": change.path,
    });
    if let Kind::Renamed { from } = &change.kind {
        data["from"] = json!(from);
    }
    if let Some((added, removed)) = change.lines {
        data["added"] = json!(added);
        data["removed"] = json!(removed);
    }
    json!({ "type": kind, "data": data })
}

fn add(totals: &mut Totals, change: &Change) {
    totals.changes += 1;
    match change.lines {
        Some((added, removed)) => {
            totals.added += added;
            totals.removed += removed;
        }
        None => totals.binary += 1,
    }
}

/// Hidden without a terminal.
fn progress_bar(commits: u64) -> ProgressBar {
    if !Term::stdout().is_term() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(commits), ProgressDrawTarget::stdout());
    let style = "appending {wide_bar:.cyan/blue} {human_pos} of {human_len} commits, {eta} left";
    bar.with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_keeps_each_streams_order() {
        let mut chunk = Chunk::default();
        for (stream, event) in [("a", 1), ("b", 2), ("a", 3)] {
            chunk.push(stream.to_owned(), json!(event));
        }
        assert_eq!(chunk.streams, ["a", "b"]);
        assert_eq!(chunk.arrays, [vec![json!(1), json!(3)], vec![json!(2)]]);
        assert_eq!(chunk.events, 3);
    }

    #[test]
    fn a_rename_of_a_binary_file_says_so() {
        let commit = Commit {
            id: "c".to_owned(),
            author: "A".to_owned(),
            email: "a@x".to_owned(),
            time: 1,
            subject: "s".to_owned(),
            changes: Vec::new(),
        };
        let kind = Kind::Renamed { from: "old".to_owned() };
        let event = event(&commit, &Change { kind, path: "new".to_owned(), lines: None }, true);
        assert_eq!(event["type"], "file_renamed");
        assert_eq!(event["data"]["from"], "old");
        assert_eq!(event["data"].get("added"), None);
    }
}
