//! `cargo xtask model`: every interleaving of small instances of the protocols, by the crate in `pg_test/model`.

use anyhow::{Context, Result, bail};
use std::process::{Command, ExitCode};

use crate::report::Report;
use crate::workspace::Workspace;

/// Where the results are shown, with what they mean.
const PAGE: &str = "docs/why-it-is-safe.md";

/// The options of `cargo xtask model`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Bring the blocks of docs/why-it-is-safe.md up to date: read the diff before you commit it
    #[arg(long)]
    write: bool,
}

/// Prints the table and the interleavings; fails if any protocol comes out otherwise than it must.
pub fn run(args: &Args) -> Result<ExitCode> {
    let status = command(args.write)?.status().context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same as a case of the tests, silent unless it fails.
pub fn test(report: &mut Report) {
    report.case("model", || {
        let output = command(false)?.output().context("cannot run cargo")?;
        if !output.status.success() {
            bail!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    });
}

fn command(write: bool) -> Result<Command> {
    let mut cargo = Workspace::current()?.cargo();
    cargo.args(["run", "--quiet", "--package", "refold-model", "--"]);
    cargo.args(write.then_some("--write")).arg(PAGE);
    Ok(cargo)
}
