//! Reads a git repository's history, oldest commit first: each commit with the files it changed.
//!
//! Merges bring no changes of their own here (git shows none by default), and what a merge alone changed is not seen.
//! Renames are git's own guess (`-M`). Nothing is written to the repository.

use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// The latest second of year 9999: what claims to be later is as good as this.
const LATEST: i64 = 253_402_300_799;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub id: String,
    pub author: String,
    pub email: String,
    /// Seconds since 1970.
    pub time: i64,
    pub subject: String,
    pub changes: Vec<Change>,
}

/// What a commit did to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: Kind,
    pub path: String,
    /// Added and removed; none for a binary file.
    pub lines: Option<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Added,
    Changed,
    Deleted,
    Renamed { from: String },
}

/// The sums of a history, as git itself counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub changes: u64,
    pub added: u64,
    pub removed: u64,
    pub binary: u64,
}

/// A repository and the commit its history is read up to: others may commit to it meanwhile.
#[derive(Debug)]
pub struct Repository {
    path: PathBuf,
    head: String,
    pub commits: u64,
}

impl Repository {
    /// Fails unless there is a commit to start from.
    pub fn open(path: &Path) -> Result<Self> {
        let head = git(path).args(["rev-parse", "--quiet", "--verify", "HEAD^{commit}"]).output();
        let head = head.context("cannot run git")?;
        if !head.status.success() {
            // Tells what is no repository at all from one without commits.
            output(git(path).args(["rev-parse", "--git-dir"]))?;
            bail!("the repository has no commits yet");
        }
        let head = text(&head.stdout).trim().to_owned();
        let commits = output(git(path).args(["rev-list", "--count", &head]))?.trim().parse()?;
        Ok(Self { path: path.to_owned(), head, commits })
    }

    /// The sums over the whole history, from git's plain output: nothing shared with [`History`] but the options.
    pub fn totals(&self) -> Result<Totals> {
        sum(&output(log(&self.path).args(["--numstat", "--format=", &self.head, "--"]))?)
    }
}

fn sum(numstat: &str) -> Result<Totals> {
    let mut totals = Totals::default();
    for line in numstat.lines().filter(|line| !line.is_empty()) {
        let mut columns = line.split('\t');
        totals.changes += 1;
        match (columns.next(), columns.next()) {
            (Some("-"), Some("-")) => totals.binary += 1,
            (Some(added), Some(removed)) => {
                totals.added += added.parse::<u64>().context(line.to_owned())?;
                totals.removed += removed.parse::<u64>().context(line.to_owned())?;
            }
            _ => bail!("git says {line:?} where numbers should be"),
        }
    }
    Ok(totals)
}

/// The commits, as git prints them.
pub struct History<R> {
    tokens: R,
    /// The header of the next commit: its first field was the end of the one before.
    next: Option<Vec<u8>>,
}

/// A running `git log`.
pub struct Reader {
    child: Child,
    history: History<BufReader<ChildStdout>>,
}

impl Reader {
    pub fn open(repository: &Repository) -> Result<Self> {
        let mut command = log(&repository.path);
        command.args(["--reverse", "--date-order", "--raw", "--numstat", "-z", "--no-abbrev"]);
        command.args(["--format=%x01%H%x00%aN%x00%aE%x00%at%x00%s", &repository.head, "--"]);
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run git")?;
        let stdout = child.stdout.take().context("git has no output")?;
        Ok(Self { child, history: History::new(BufReader::new(stdout)) })
    }

    /// The next commit; at the end, whether git ended well.
    pub fn next_commit(&mut self) -> Result<Option<Commit>> {
        let commit = self.history.next_commit().context("git's output is not understood")?;
        if commit.is_none() {
            let status = self.child.wait()?;
            ensure!(status.success(), "git log failed: {status}");
        }
        Ok(commit)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl<R: BufRead> History<R> {
    pub fn new(tokens: R) -> Self {
        Self { tokens, next: None }
    }

    pub fn next_commit(&mut self) -> Result<Option<Commit>> {
        let Some(header) = self.next.take().map_or_else(|| self.token(), |token| Ok(Some(token)))? else {
            return Ok(None);
        };
        let Some(id) = header.strip_prefix(b"\x01") else { bail!("{:?} begins no commit", text(&header)) };
        let (author, email) = (self.field()?, self.field()?);
        let (time, subject) = (self.field()?, self.field()?);
        let mut commit = Commit {
            id: text(id),
            author,
            email,
            time: time.parse::<i64>().context(time)?.clamp(0, LATEST),
            subject,
            changes: Vec::new(),
        };
        let mut lines = HashMap::new();
        while let Some(token) = self.token()? {
            // The first entry of a commit comes after a line break.
            match token.strip_prefix(b"\n").unwrap_or(&token) {
                raw if raw.starts_with(b":") => {
                    let change = self.change(raw)?;
                    commit.changes.push(change);
                }
                header if header.starts_with(b"\x01") => {
                    self.next = Some(token);
                    break;
                }
                counts => {
                    let (path, counts) = self.counts(&text(counts))?;
                    lines.insert(path, counts);
                }
            }
        }
        for change in &mut commit.changes {
            change.lines = lines
                .remove(&change.path)
                .with_context(|| format!("git counts no lines for {:?} in {}", change.path, commit.id))?;
        }
        Ok(Some(commit))
    }

    /// `:mode mode id id STATUS`, then one path, or two for a rename.
    fn change(&mut self, raw: &[u8]) -> Result<Change> {
        let raw = text(raw);
        let status = raw.rsplit(' ').next().unwrap_or_default().to_owned();
        let path = self.field()?;
        let kind = match status.as_bytes().first() {
            Some(b'A') => Kind::Added,
            Some(b'D') => Kind::Deleted,
            Some(b'R') => {
                return Ok(Change { kind: Kind::Renamed { from: path }, path: self.field()?, lines: None });
            }
            Some(b'M' | b'T') => Kind::Changed,
            _ => bail!("unknown status {status:?} of {path:?}"),
        };
        Ok(Change { kind, path, lines: None })
    }

    /// `added TAB removed TAB path`, or an empty path and then two for a rename; the path and the counts.
    fn counts(&mut self, entry: &str) -> Result<(String, Option<(u64, u64)>)> {
        let mut columns = entry.splitn(3, '\t');
        let (Some(added), Some(removed), Some(path)) = (columns.next(), columns.next(), columns.next())
        else {
            bail!("{entry:?} is no line count");
        };
        let path = if path.is_empty() {
            self.field()?;
            self.field()?
        } else {
            path.to_owned()
        };
        let lines = match (added, removed) {
            ("-", "-") => None,
            _ => Some((added.parse().context(entry.to_owned())?, removed.parse().context(entry.to_owned())?)),
        };
        Ok((path, lines))
    }

    fn field(&mut self) -> Result<String> {
        Ok(text(&self.token()?.context("git's output ends within a commit")?))
    }

    /// Up to the next NUL.
    fn token(&mut self) -> Result<Option<Vec<u8>>> {
        let mut token = Vec::new();
        self.tokens.read_until(0, &mut token)?;
        if token.is_empty() {
            return Ok(None);
        }
        token.pop_if(|last| *last == 0);
        Ok(Some(token))
    }
}

/// Names need not be UTF-8; the log's are.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `git log` with everything that the user's settings could change set.
fn log(repository: &Path) -> Command {
    let mut command = git(repository);
    command.args([
        "-c",
        "log.showRoot=true",
        "-c",
        "log.showSignature=false",
        "-c",
        "diff.ignoreSubmodules=none",
    ]);
    command.args([
        "log",
        "-M",
        "--diff-merges=off",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--no-notes",
    ]);
    command.args(["--no-decorate", "--encoding=UTF-8"]);
    command
}

fn git(repository: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(repository).stdin(Stdio::null());
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    command
}

/// What a git command prints; its complaint if it fails.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot run git")?;
    ensure!(output.status.success(), "{}", text(&output.stderr).trim());
    Ok(text(&output.stdout))
}

#[cfg(test)]
mod tests;
