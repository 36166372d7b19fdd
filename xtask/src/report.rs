//! What a test run prints: a line for each case as it ends, what went wrong, and the count.

use anyhow::Result;
use console::{Term, style};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::interrupt;

/// The cases so far.
#[derive(Debug, Default)]
pub struct Report {
    passed: usize,
    failed: Vec<String>,
}

impl Report {
    /// Runs one case; its failure is told at once and does not stop the run.
    pub fn case(&mut self, name: &str, run: impl FnOnce() -> Result<()>) {
        let started = Instant::now();
        announce(name);
        let result = run();
        interrupt::stand_still_if_interrupted();
        let time = started.elapsed();
        match result {
            Ok(()) => self.pass(name, 1, time),
            Err(error) => self.fail(name, 1, time, &error),
        }
    }

    /// Some cases that another runner counted.
    pub fn pass(&mut self, name: &str, cases: usize, time: Duration) {
        self.passed += cases;
        clear_announcement();
        println!("{}      {name}{} {}", style("ok").green(), count(cases), seconds(time));
    }

    pub fn fail(&mut self, name: &str, cases: usize, time: Duration, error: &anyhow::Error) {
        self.failed.extend(std::iter::repeat_n(name.to_owned(), cases));
        clear_announcement();
        println!("{}  {name}{} {}", style("FAILED").red().bold(), count(cases), seconds(time));
        for line in format!("{error:#}").lines() {
            println!("    {line}");
        }
    }

    pub fn failures(&self) -> usize {
        self.failed.len()
    }

    /// Prints the failures once more, by name, and the closing line.
    pub fn close(mut self) -> ExitCode {
        let failed = self.failed.len();
        self.failed.dedup();
        for name in &self.failed {
            println!("failed: {name}");
        }
        println!("{} passed, {failed} failed", self.passed);
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Says what is running now, where that line can be taken back: on a terminal.
pub fn announce(name: &str) {
    let terminal = Term::stdout();
    if terminal.is_term() {
        terminal.write_str(&format!("...     {name}")).ok();
        terminal.flush().ok();
    }
}

fn clear_announcement() {
    let terminal = Term::stdout();
    if terminal.is_term() {
        terminal.clear_line().ok();
    }
}

fn count(cases: usize) -> String {
    if cases == 1 { String::new() } else { format!(" ({cases})") }
}

fn seconds(time: Duration) -> String {
    style(format!("{:.2} s", time.as_secs_f64())).dim().to_string()
}

/// The lines that only one of two texts has, marked as in a diff.
pub fn differences(shown: &str, written: &str) -> String {
    let only_in = |one: &str, other: &str, sign: char| -> String {
        let lines = one.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.map(|line| format!("{sign}{line}\n")).collect()
    };
    only_in(shown, written, '-') + &only_in(written, shown, '+')
}

#[cfg(test)]
mod tests {
    use super::differences;

    #[test]
    fn shows_both_sides() {
        assert_eq!(differences("a\nb\n", "a\nc\n"), "-b\n+c\n");
    }
}
