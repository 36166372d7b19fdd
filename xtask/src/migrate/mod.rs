//! `cargo xtask migrate`: the scripts of `sql/migrate` copy what other event stores' own packages have written, and every
//! event is compared with what plain SQL says of the old tables.
//!
//! `source` says what an old store is, `emmett`, `marten` and `message_db` are them, `script` calls the scripts. `moves` are
//! the ways to migrate, `variations` what a source may have, `refusals` what it may not, `controls` faulty scripts.

mod controls;
mod emmett;
mod marten;
mod measure;
mod message_db;
mod moves;
mod refusals;
mod script;
mod source;
mod variations;

use anyhow::Result;
use std::process::ExitCode;

use crate::install::{self, Profile};
use crate::peers::{self, Peer};
use crate::report::Report;
use crate::server::{Server, ServerOptions};
use crate::server_log;
use crate::toolchain::Postgres;
use crate::workspace::Workspace;
use script::Scripts;
use source::{Base, Source};

/// The options of `cargo xtask migrate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the cases whose name has this in it
    #[arg(value_name = "TEXT")]
    only: Option<String>,
    /// Instead of all tests, tell how long it takes to copy so many events
    #[arg(long, value_name = "EVENTS", conflicts_with = "only")]
    measure: Option<u64>,
}

pub fn run(pg: &Postgres, args: &Args) -> Result<ExitCode> {
    if let Some(events) = args.measure {
        measure::run(pg, events)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = Report::default();
    let only = args.only.as_deref().unwrap_or_default();
    let mut sources = by_definition();
    sources.extend(by_package()?);
    test(pg, sources, only, &mut report)?;
    Ok(report.close())
}

/// What `cargo xtask test` runs: what needs no package of another language.
pub fn smoke_tests(pg: &Postgres, report: &mut Report) -> Result<()> {
    test(pg, by_definition(), "", report)
}

/// What `cargo xtask test --all` runs too.
pub fn package_tests(pg: &Postgres, report: &mut Report) -> Result<()> {
    test(pg, by_package()?, "", report)
}

fn by_definition() -> Vec<Box<dyn Source>> {
    vec![Box::new(marten::GUIDS), Box::new(marten::STRINGS)]
}

fn by_package() -> Result<Vec<Box<dyn Source>>> {
    let installed = peers::install(&[Peer::Emmett, Peer::MessageDb], &Workspace::current()?)?;
    let emmett = emmett::Emmett { script: installed.join(Peer::Emmett.name()).join("peer.mjs") };
    let installer = installed.join(Peer::MessageDb.name()).join("install.sh");
    Ok(vec![Box::new(emmett), Box::new(message_db::MessageDb { installer })])
}

fn test(pg: &Postgres, sources: Vec<Box<dyn Source>>, only: &str, report: &mut Report) -> Result<()> {
    let extension = install::build(pg, Profile::Dev)?;
    let mut server = Server::start(pg, &extension, &ServerOptions::default())?;
    let scripts = Scripts::of_checkout()?;
    let failures_before = report.failures();
    for source in &sources {
        let name = source.name();
        let base = Base::create(&server, source.as_ref());
        let base = match base {
            Ok(base) => base,
            Err(error) => {
                report.case(&format!("migrate: {name}"), || Err(error));
                continue;
            }
        };
        let mut case = |what: &str, run: &dyn Fn() -> Result<()>| {
            let name = format!("migrate: {name}: {what}");
            if name.contains(only) {
                report.case(&name, run);
            }
        };
        for (what, run) in moves::MOVES {
            case(what, &|| run(&base, &scripts));
        }
        if source.is_second_of_its_kind() {
            continue;
        }
        for variation in source.variations() {
            case(variation.name, &|| variation.run(&base, &scripts));
        }
        for refusal in refusals::all(source.as_ref()) {
            case(&format!("refused: {}", refusal.name), &|| refusal.run(&base, &scripts));
        }
    }
    // They are the same for all.
    if let Some(source) = sources.iter().find(|source| source.name() == marten::STRINGS.name()) {
        for control in controls::ALL {
            let name = format!("migrate: control: {}", control.name);
            if name.contains(only) {
                report.case(&name, || control.run(&Base::of(&server, source.as_ref()), &scripts));
            }
        }
    }
    report.case("migrate: server log", || server_log::check(&server.log_file()));
    if report.failures() > failures_before {
        println!("logs: {}", server.preserve_logs()?.display());
    }
    Ok(())
}
