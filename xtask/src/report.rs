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
    failures: Vec<Failure>,
}

/// Of one runner: how many cases, and why in a few lines.
#[derive(Debug)]
struct Failure {
    name: String,
    cases: usize,
    cause: String,
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
        self.failures.push(Failure { name: name.to_owned(), cases, cause: in_brief(error) });
        clear_announcement();
        println!("{}  {name}{} {}", style("FAILED").red().bold(), count(cases), seconds(time));
        for line in format!("{error:#}").lines() {
            println!("    {line}");
        }
    }

    pub fn failures(&self) -> usize {
        self.failures.iter().map(|failure| failure.cases).sum()
    }

    /// Prints the failures once more, in brief, and the closing line: whoever keeps only the end of it knows why.
    pub fn close(self) -> ExitCode {
        let failed = self.failures();
        for Failure { name, cause, .. } in &self.failures {
            println!("failed: {name}\n{cause}");
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

/// Of an error's text what is told at the end of a run: so many lines, and of each so much at its beginning and its end.
const BRIEF_LINES: usize = 8;
const BRIEF_ENDS: [usize; 2] = [120, 280];

/// What is at the bottom of it, indented, in a few lines that are not long.
fn in_brief(error: &anyhow::Error) -> String {
    let shorten = |line: &str| {
        let [head, tail] = BRIEF_ENDS;
        match line.chars().count() {
            length if length > head + tail => {
                let start: String = line.chars().take(head).collect();
                let end: String = line.chars().skip(length - tail).collect();
                format!("    {start} [...] {end}")
            }
            _ => format!("    {line}"),
        }
    };
    error.root_cause().to_string().lines().take(BRIEF_LINES).map(shorten).collect::<Vec<_>>().join("\n")
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
    use super::{differences, in_brief};
    use anyhow::anyhow;

    #[test]
    fn tells_the_cause_in_brief() {
        let long = format!("begins {} ends", "x".repeat(1000));
        let text = in_brief(&anyhow!("{long}\n{}", "line\n".repeat(20)).context("a whole report"));
        assert!(text.starts_with("    begins x") && text.contains("x [...] x") && text.contains("x ends\n"));
        assert!(!text.contains("report"));
        assert_eq!(text.lines().count(), 8);
    }

    #[test]
    fn shows_both_sides() {
        assert_eq!(differences("a\nb\n", "a\nc\n"), "-b\n+c\n");
    }
}
