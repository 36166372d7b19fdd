//! What needs no server: format, lints, unit tests.

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use std::process::Command;
use std::time::Instant;

use crate::report::{Report, announce};
use crate::toolchain::Postgres;
use crate::workspace::{self, Workspace};

/// The packages beside the extension; they are built apart from it, because cargo unifies the features of what is
/// built together, and the extension's many dependencies would be compiled a second time.
const TOOLS: [&str; 12] = [
    "--package",
    "xtask",
    "--package",
    "refold-bench",
    "--package",
    "refold-client",
    "--package",
    "refold-model",
    "--package",
    "refold-scenes",
    "--package",
    "refold-stress",
];

/// rustfmt and clippy on everything, warnings denied.
pub fn check(pg: &Postgres, report: &mut Report) -> Result<()> {
    let workspace = Workspace::current()?;
    report.case("format", || {
        quietly(workspace.cargo().args(["fmt", "--all", "--check", "--", "--color", "never"]))
    });
    for (name, features) in [("clippy refold", ""), ("clippy refold, waitpoints", "waitpoints")] {
        let mut extension = workspace.cargo_for(pg);
        extension.arg("clippy").args(workspace::extension_arguments(pg)).args(["--features", features]);
        report.case(name, || quietly(with_warnings_denied(&mut extension)));
    }
    let mut tools = workspace.cargo();
    tools.arg("clippy").args(TOOLS);
    report.case("clippy tools", || quietly(with_warnings_denied(&mut tools)));
    Ok(())
}

fn with_warnings_denied(clippy: &mut Command) -> &mut Command {
    clippy.args(["--all-targets", "--quiet", "--", "--deny", "warnings"])
}

/// The unit tests of the extension's pure modules and of the tools.
pub fn unit(pg: &Postgres, report: &mut Report) -> Result<()> {
    let workspace = Workspace::current()?;
    let mut extension = workspace.cargo_for(pg);
    extension.args(["test", "--lib"]).args(workspace::extension_arguments(pg));
    count_tests("unit refold", &mut extension, report)?;
    let mut tools = workspace.cargo();
    tools.arg("test").args(TOOLS);
    count_tests("unit tools", &mut tools, report)
}

/// Runs a command whose output matters only if it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Runs `cargo test` and counts each test as a case of its own.
fn count_tests(name: &str, cargo: &mut Command, report: &mut Report) -> Result<()> {
    let started = Instant::now();
    announce(name);
    let output = cargo.arg("--quiet").output().context("cannot run cargo")?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let (passed, failed) = summed(&printed)?;
    let time = started.elapsed();
    if passed > 0 {
        report.pass(name, passed, time);
    }
    let verdict = || {
        ensure!(
            output.status.success() && failed == 0,
            "{printed}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(passed > 0, "no unit test was found");
        Ok(())
    };
    if let Err(error) = verdict() {
        report.fail(name, failed.max(1), time, &error);
    }
    Ok(())
}

/// Passed and failed, over all the summaries in the output of `cargo test`.
fn summed(output: &str) -> Result<(usize, usize)> {
    let summary = Regex::new(r"(?m)^test result: .*?(\d+) passed; (\d+) failed;")?;
    let mut sum = (0, 0);
    for (_, [passed, failed]) in summary.captures_iter(output).map(|captures| captures.extract()) {
        sum = (sum.0 + passed.parse::<usize>()?, sum.1 + failed.parse::<usize>()?);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::summed;

    #[test]
    fn sums_every_summary() -> anyhow::Result<()> {
        let output = "test result: ok. 3 passed; 0 failed; 0 ignored\n\n\
                      test result: FAILED. 10 passed; 2 failed; 1 ignored\n";
        assert_eq!(summed(output)?, (13, 2));
        assert_eq!(summed("error: could not compile")?, (0, 0));
        Ok(())
    }
}
