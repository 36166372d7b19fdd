//! `cargo xtask clients`: the programs of `docs/clients.md`, each run in its language against a private server.
//!
//! `language` says what each needs and how it is run, `trial` what happens to it and what must come of it, `page` that the
//! page shows what was run. A language that cannot be run is a failure, never left out.

mod language;
mod page;
mod program;
mod trial;

use anyhow::Result;
use std::process::ExitCode;

use crate::install::{self, Profile};
use crate::report::Report;
use crate::server::{Server, ServerOptions};
use crate::server_log;
use crate::toolchain::Postgres;
use language::Language;
use trial::World;

/// The options of `cargo xtask clients`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only in this language
    #[arg(long)]
    language: Option<Language>,
    /// Have the page show the programs as they are now
    #[arg(long)]
    accept: bool,
}

pub fn run(pg: &Postgres, args: &Args) -> Result<ExitCode> {
    let mut report = Report::default();
    let languages = args.language.map_or(Language::ALL.to_vec(), |language| vec![language]);
    all(pg, &languages, args.accept, &mut report)?;
    Ok(report.close())
}

/// What `cargo xtask test` runs; with `--all` the languages too whose packages are large.
pub fn tests(pg: &Postgres, with_heavy: bool, report: &mut Report) -> Result<()> {
    let wanted = |language: &Language| with_heavy || !language.is_heavy();
    let languages: Vec<_> = Language::ALL.into_iter().filter(wanted).collect();
    all(pg, &languages, false, report)
}

fn all(pg: &Postgres, languages: &[Language], accept: bool, report: &mut Report) -> Result<()> {
    report.case("clients: what the page shows", || page::compare(accept));
    let extension = install::build(pg, Profile::Dev)?;
    let options = ServerOptions { has_tcp: true, ..Default::default() };
    let mut server = Server::start(pg, &extension, &options)?;
    let failures_before = report.failures();
    let world = World::create(&server)?;
    for &language in languages {
        report.case(&format!("clients: {}", language.name()), || world.is_overtaken(language));
        let name = format!("clients: {}, without its retry", language.name());
        report.case(&name, || world.fails_without_retry(language));
    }
    drop(world);
    report.case("clients: server log", || server_log::check(&server.log_file()));
    if report.failures() > failures_before {
        println!("logs: {}", server.preserve_logs()?.display());
    }
    Ok(())
}
