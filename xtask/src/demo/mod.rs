//! The demo: appends and rebuilds race on a private server.

use anyhow::{Result, bail};

use crate::server::Server;
use crate::toolchain::Postgres;

/// The options of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// A named test on a running server that has no database of refold's yet.
pub type SmokeTest = (&'static str, fn(&Server) -> Result<()>);

pub fn run(_pg: &Postgres, _args: &Args) -> Result<()> {
    bail!("the demo is not written yet")
}

/// What `cargo xtask test` runs of the demo.
pub fn smoke_tests() -> Vec<SmokeTest> {
    Vec::new()
}
