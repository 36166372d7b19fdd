//! `cargo xtask upgrade`: whoever upgrades by `ALTER EXTENSION UPDATE` has what a fresh installation has, property by
//! property; released scripts are as they were; and an upgrade disturbs no append.
//!
//! While nothing has changed since the last release there is no real step to test. So `next.sql` makes up a next version:
//! the same comparison and the upgrade under load run with it, and so do the controls, which leave something out of it.

mod facts;
mod load;
mod releases;

use anyhow::{Context, Result, bail, ensure};
use postgres::{Client, NoTls};
use std::process::ExitCode;

use crate::crash::explain;
use crate::install::{self, Extension, Profile};
use crate::report::Report;
use crate::server::{Server, ServerOptions};
use crate::server_log;
use crate::toolchain::Postgres;
use crate::workspace::{EXTENSION, Workspace};
use facts::Facts;
pub use releases::{Releases, Script};

/// The made-up next version.
const NEXT: &str = include_str!("next.sql");
/// What this checkout installs, under a name that no release has.
const FRESH: &str = "fresh";

/// Steps to the next version that lack something: what, and by which difference it must be found.
const CONTROLS: [(&str, Edit, &str); 10] = [
    (
        "a comment on a column",
        Edit::Leave("COMMENT ON COLUMN"),
        "comment column ticket of table refold.skipped_event is missing",
    ),
    ("a comment on a type", Edit::Leave("COMMENT ON TYPE"), "comment type refold.verdict is missing"),
    ("a revoke", Edit::Leave("REVOKE"), "privilege refold.count_events(text) EXECUTE PUBLIC is superfluous"),
    ("a grant", Edit::Leave("GRANT SELECT"), "privilege refold.tickets SELECT pg_monitor is missing"),
    (
        "a constraint",
        Edit::Leave("ALTER TABLE refold.skipped_event ADD CONSTRAINT"),
        "constraint ticket_given on refold.skipped_event is missing",
    ),
    ("an index", Edit::Leave("CREATE INDEX"), "index refold.skipped_event_ticket_idx is missing"),
    (
        "how a trigger fires",
        Edit::Leave("ALTER TABLE refold.skipped_event ENABLE"),
        "trigger told on refold.skipped_event is",
    ),
    ("what is dumped", Edit::Leave("SELECT pg_extension_config_dump"), "dumped refold.ticket is missing"),
    (
        "a function's body",
        Edit::Replace("count(*) FROM refold.event", "count(1) FROM refold.event"),
        "routine refold.count_events(text) is",
    ),
    ("a default", Edit::Replace(" DEFAULT 'none'", ""), "column refold.skipped_event.ticket is"),
];

enum Edit {
    /// Leaves out the line that begins so.
    Leave(&'static str),
    Replace(&'static str, &'static str),
}

impl Edit {
    fn apply(&self, sql: &str) -> String {
        match self {
            Self::Leave(beginning) => sql
                .lines()
                .filter(|line| !line.starts_with(beginning))
                .fold(String::new(), |text, line| text + line + "\n"),
            Self::Replace(from, to) => sql.replace(from, to),
        }
    }
}

/// The options of `cargo xtask upgrade`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Release this version: freeze its install script, and the step to it
    #[arg(long)]
    freeze: bool,
}

pub fn run(pg: &Postgres, args: &Args) -> Result<ExitCode> {
    if args.freeze {
        let script = install::build(pg, Profile::Dev)?.script;
        for path in Releases::read(&Workspace::current()?)?.freeze(&script)? {
            println!("frozen: {}", path.display());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = Report::default();
    smoke_tests(pg, &mut report)?;
    Ok(report.close())
}

/// What `cargo xtask test` runs.
pub fn smoke_tests(pg: &Postgres, report: &mut Report) -> Result<()> {
    let releases = Releases::read(&Workspace::current()?)?;
    report.case("upgrade: released scripts are frozen", || releases.require_frozen());
    report.case("upgrade: a way from each release", || releases.require_path());
    let mut extension = install::build(pg, Profile::Dev)?;
    add_versions(&mut extension, &releases);
    let mut server = Server::start(pg, &extension, &ServerOptions::default())?;
    let failures_before = report.failures();
    for version in &releases.versions {
        let name = format!("upgrade: {} to {} = fresh", version.as_str(), releases.current.as_str());
        report.case(&name, || from_release(&server, version.as_str(), releases.current.as_str()));
    }
    report.case("upgrade: fresh to next = next", || from_fresh(&server, "next"));
    for (number, (what, _, difference)) in CONTROLS.iter().enumerate() {
        report.case(&format!("upgrade: control without {what}"), || {
            let found = from_fresh(&server, &control(number)).err().context("nothing is found to differ")?;
            let found = found.to_string();
            ensure!(found.contains(difference), "it is found by something else:\n{found}");
            Ok(())
        });
    }
    report.case("upgrade: under load", || load::upgrade(&server));
    report.case("upgrade: server log", || server_log::check(&server.log_file()));
    if report.failures() > failures_before {
        println!("logs: {}", server.preserve_logs()?.display());
    }
    Ok(())
}

/// Makes every version installable: each as it was released, this checkout's as `fresh`, and the made-up next ones.
fn add_versions(extension: &mut Extension, releases: &Releases) {
    let script = |versions: &str, text: String| Script { name: format!("{EXTENSION}--{versions}.sql"), text };
    let fresh = extension.script.clone();
    extension.further.extend(releases.scripts().cloned());
    extension.further.push(script("next", format!("{fresh}\n{NEXT}")));
    extension.further.push(script(&format!("{FRESH}--next"), NEXT.to_owned()));
    extension.further.push(script(FRESH, fresh));
    for (number, (_, edit, _)) in CONTROLS.iter().enumerate() {
        extension.further.push(script(&format!("{FRESH}--{}", control(number)), edit.apply(NEXT)));
    }
}

fn control(number: usize) -> String {
    format!("control{number}")
}

fn from_release(server: &Server, from: &str, to: &str) -> Result<()> {
    let fresh = installed(server, FRESH, None)?;
    let upgraded = installed(server, from, (from != to).then_some(to))?;
    let Err(difference) = fresh.require_same(&upgraded) else { return Ok(()) };
    if from == to {
        bail!(
            "{difference}\n{from} is released as it was: raise the version in Cargo.toml and write the step to it into sql/upgrade.sql"
        );
    }
    Err(difference)
}

fn from_fresh(server: &Server, to: &str) -> Result<()> {
    installed(server, "next", None)?.require_same(&installed(server, FRESH, Some(to))?)
}

/// What is in a database where this version was installed, and then upgraded.
fn installed(server: &Server, version: &str, upgrade_to: Option<&str>) -> Result<Facts> {
    const DATABASE: &str = "upgrade";
    let facts = install_version(server, DATABASE, version).and_then(|mut client| {
        if let Some(to) = upgrade_to {
            client
                .batch_execute(&format!("ALTER EXTENSION {EXTENSION} UPDATE TO '{to}'"))
                .map_err(explain)
                .with_context(|| format!("no upgrade from {version} to {to}"))?;
        }
        Facts::read(&mut client)
    });
    server.drop_database(DATABASE)?;
    facts
}

fn install_version(server: &Server, database: &str, version: &str) -> Result<Client> {
    server.create_database(database)?;
    let mut client = connect(server, database)?;
    client
        .batch_execute(&format!("CREATE EXTENSION {EXTENSION} VERSION '{version}'"))
        .map_err(explain)
        .with_context(|| format!("cannot install {version}"))?;
    Ok(client)
}

fn connect(server: &Server, database: &str) -> Result<Client> {
    server.config(database).options("-c statement_timeout=60s").connect(NoTls).map_err(explain)
}

#[cfg(test)]
mod tests {
    use super::releases::{checksums, require_unchanged};
    use super::{CONTROLS, NEXT, Script};
    use anyhow::Result;

    #[test]
    fn each_control_lacks_something() {
        for (what, edit, _) in &CONTROLS {
            assert_ne!(edit.apply(NEXT), NEXT, "{what}");
        }
    }

    #[test]
    fn what_was_released_is_frozen() -> Result<()> {
        let script = |name: &str, text: &str| Script { name: name.to_owned(), text: text.to_owned() };
        let released = [script("refold--1.sql", "SELECT 1"), script("refold--1--2.sql", "SELECT 2")];
        let recorded = checksums(&released)?;
        require_unchanged(&released, &recorded)?;
        let changed = [script("refold--1.sql", "SELECT 1;"), released[1].clone()];
        assert!(require_unchanged(&changed, &recorded).is_err());
        assert!(require_unchanged(&released[..1], &recorded).is_err());
        let added = [released[0].clone(), released[1].clone(), script("refold--2.sql", "")];
        assert!(require_unchanged(&added, &recorded).is_err());
        Ok(())
    }
}
