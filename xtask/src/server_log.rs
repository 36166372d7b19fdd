//! What no test may leave in the server's log: crashes, and what PostgreSQL says of code that does not tidy up.

use anyhow::{Context, Result, ensure};
use regex::Regex;
use std::fs;
use std::path::Path;

const FAULTS: &str = "PANIC:|terminated by signal|startup process .* exited|reference leak|refcount leak|file leak|resource was not closed|\
                      you don't own a lock|snapshot .* still active|problem in alloc set";

const KILLED: &str = "terminated by signal 9";

/// Fails with the lines of `log` that tell of a crash or a leak.
pub fn check(log: &Path) -> Result<()> {
    check_after_kills(log, 0)
}

/// The same where this many backends were killed, each while it waited.
pub fn check_after_kills(log: &Path, kills: usize) -> Result<()> {
    let killed = killed(log)?;
    ensure!(killed.len() == kills, "{kills} backends were killed, but:\n{}", killed.join("\n"));
    Ok(())
}

/// The same where so many were killed, whatever they were at: one that was about to end is none in the log.
pub fn check_after_random_kills(log: &Path, kills: usize) -> Result<()> {
    let killed = killed(log)?;
    ensure!(killed.len() <= kills, "{kills} backends were killed, but:\n{}", killed.join("\n"));
    Ok(())
}

/// The lines that tell of killed backends; fails with others that tell of a crash or a leak.
fn killed(log: &Path) -> Result<Vec<String>> {
    let text = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let faults = faults_in(&String::from_utf8_lossy(&text))?;
    let (killed, others): (Vec<_>, Vec<_>) = faults.into_iter().partition(|line| line.contains(KILLED));
    ensure!(others.is_empty(), "{}", others.join("\n"));
    Ok(killed)
}

fn faults_in(log: &str) -> Result<Vec<String>> {
    let fault = Regex::new(FAULTS)?;
    // Statements and contexts quote what tests say; only messages count.
    let message = Regex::new(r" (WARNING|FATAL|PANIC|LOG|TRAP): ")?;
    let lines = log.lines().filter(|line| message.is_match(line) && fault.is_match(line));
    Ok(lines.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::faults_in;

    #[test]
    fn finds_leaks_and_crashes() -> anyhow::Result<()> {
        let log = "06:00 [7] db psql WARNING:  relcache reference leak: relation \"gate\" not closed\n\
                   06:00 [7] db psql ERROR:  division by zero\n\
                   06:00 [7] db psql STATEMENT:  SELECT 'reference leak'\n\
                   06:00 [1]   LOG:  server process (PID 9) was terminated by signal 11: Segmentation fault\n";
        assert_eq!(faults_in(log)?.len(), 2);
        Ok(())
    }
}
