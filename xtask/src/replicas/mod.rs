//! `cargo xtask replicas`: a store that is replicated, reached through a pooler, recovered to a point in time or brought to
//! another major version by pg_upgrade.
//!
//! `pair` are two servers and what goes from one to the other. `published` has read models that are published, `logical` the
//! log itself, with projections on the subscriber; `misuse` is what must be refused there, `triggers` what
//! other triggers do, `page` what docs/replication.md says to do. `pooler` appends through
//! pgbouncer, `recovery` goes back to points in time, `pg_upgrade` to the newest version.

mod logical;
mod misuse;
mod page;
mod pair;
mod pg_upgrade;
mod pooler;
mod published;
mod recovery;
mod triggers;

use anyhow::{Result, ensure};
use std::process::ExitCode;

use crate::install::{self, Extension, Profile};
use crate::report::Report;
use crate::server::{Server, ServerOptions};
use crate::server_log;
use crate::toolchain::Postgres;
use pair::Pair;

/// The options of `cargo xtask replicas`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the cases whose name has this in it
    #[arg(value_name = "TEXT")]
    only: Option<String>,
}

pub fn run(pg: &Postgres, args: &Args) -> Result<ExitCode> {
    let mut report = Report::default();
    let mut cases = Cases { report: &mut report, only: args.only.as_deref().unwrap_or_default(), ran: 0 };
    quick(pg, &mut cases)?;
    long(pg, &mut cases)?;
    ensure!(cases.ran > 0, "no case has {:?} in its name", cases.only);
    Ok(report.close())
}

/// What `cargo xtask test` runs; with `all`, what takes longer too.
pub fn tests(pg: &Postgres, all: bool, report: &mut Report) -> Result<()> {
    let mut cases = Cases { report, only: "", ran: 0 };
    quick(pg, &mut cases)?;
    if all { long(pg, &mut cases) } else { Ok(()) }
}

fn quick(pg: &Postgres, cases: &mut Cases) -> Result<()> {
    let pairs = [published::NAMES, logical::NAMES, misuse::NAMES, triggers::NAMES, page::NAMES].concat();
    if cases.wants(&pairs) || cases.wants(recovery::NAMES) {
        let extension = install::build_with(pg, Profile::Dev, &["waitpoints"])?;
        if cases.wants(&pairs) {
            replication(pg, &extension, cases)?;
        }
        if cases.wants(recovery::NAMES) {
            on_server(pg, &extension, &recovery::options(), cases, |server, cases| {
                recovery::run(pg, &extension, server, cases)
            })?;
        }
    }
    // The other build comes last: each change of features compiles the extension again.
    if cases.wants(pooler::NAMES) {
        let extension = install::build(pg, Profile::Dev)?;
        on_server(pg, &extension, &ServerOptions::default(), cases, |server, cases| {
            pooler::run(server, cases)
        })?;
    }
    Ok(())
}

/// Needs the newest PostgreSQL, and a build for it.
fn long(pg: &Postgres, cases: &mut Cases) -> Result<()> {
    if cases.wants(pg_upgrade::NAMES) { pg_upgrade::run(pg, cases) } else { Ok(()) }
}

/// Two servers, each the publisher or the subscriber of what goes between them.
fn replication(pg: &Postgres, extension: &Extension, cases: &mut Cases) -> Result<()> {
    let mut kills = 0;
    on_server(pg, extension, &pair::publisher_options(), cases, |publisher, cases| {
        let mut subscriber = Server::start(pg, extension, &pair::subscriber_options())?;
        let failures_before = cases.report.failures();
        let pair = Pair { publisher, subscriber: &subscriber };
        published::run(&pair, cases)?;
        logical::run(&pair, cases, &mut kills)?;
        misuse::run(&pair, cases)?;
        triggers::run(&pair, cases)?;
        page::run(&pair, cases)?;
        let log = subscriber.log_file();
        cases.closing("server log of the subscriber", || server_log::check_after_kills(&log, kills));
        if cases.report.failures() > failures_before {
            println!("logs of the subscriber: {}", subscriber.preserve_logs()?.display());
        }
        Ok(())
    })
}

/// Starts a server for `body`, and looks into its log in the end.
fn on_server(
    pg: &Postgres,
    extension: &Extension,
    options: &ServerOptions,
    cases: &mut Cases,
    body: impl FnOnce(&Server, &mut Cases) -> Result<()>,
) -> Result<()> {
    let failures_before = cases.report.failures();
    let mut server = Server::start(pg, extension, options)?;
    body(&server, cases)?;
    let log = server.log_file();
    cases.closing("server log", || server_log::check(&log));
    if cases.report.failures() > failures_before {
        println!("logs: {}", server.preserve_logs()?.display());
    }
    Ok(())
}

/// The cases of one run.
pub struct Cases<'a> {
    report: &'a mut Report,
    /// Only those with this in their name.
    only: &'a str,
    ran: usize,
}

impl Cases<'_> {
    fn wants(&self, names: &[&str]) -> bool {
        names.iter().any(|name| name.contains(self.only))
    }

    /// Runs the case if it is wanted.
    pub fn case(&mut self, name: &str, case: impl FnOnce() -> Result<()>) {
        if name.contains(self.only) {
            self.ran += 1;
            self.report.case(&format!("replicas: {name}"), case);
        }
    }

    /// A case whatever is wanted, at a server's end.
    fn closing(&mut self, name: &str, case: impl FnOnce() -> Result<()>) {
        self.report.case(&format!("replicas: {name}"), case);
    }
}
