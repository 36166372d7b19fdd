//! The test run: all of it, or one of its parts. A part that fails does not keep the next from running.

use anyhow::Result;
use std::process::ExitCode;
use std::time::Instant;

use crate::install::{self, Profile};
use crate::regress::{Selection, Suite, run_suite};
use crate::report::Report;
use crate::server::{Server, ServerOptions};
use crate::toolchain::Postgres;
use crate::{
    bench, checks, clients, crash, demo, docs, dump, endurance, migrate, model, package, pgspot, replicas,
    server_log, stress, upgrade,
};

/// The options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What takes long or needs much of the network too: the package in a clean system, the clients in Go and Java, the
    /// book, other stores' packages, pg_upgrade
    #[arg(long)]
    all: bool,
}

/// `cargo xtask test`: everything.
pub fn all(pg: &Postgres, args: &Args) -> Result<ExitCode> {
    println!("{}", pg.version);
    let mut report = Report::default();
    checks::check(pg, &mut report)?;
    checks::unit(pg, &mut report)?;
    if let Err(error) = pgspot::run(pg, &mut report) {
        report.case("pgspot", || Err(error));
    }
    model::test(&mut report);
    docs::check_sources(pg, &mut report);
    on_server(pg, &mut report, |server, report| {
        for suite in [Suite::Regress, Suite::Isolation] {
            if let Err(error) = run_suite(suite, &Selection::default(), pg, server, report) {
                report.case(suite.name(), || Err(error));
            }
        }
        docs::check_on(server, false, report);
        for (name, test) in demo::smoke_tests() {
            report.case(name, || test(server));
        }
        stress::smoke_tests(server, report);
        endurance::smoke_tests(server, report);
        bench::smoke_test(server, report);
    })?;
    if let Err(error) = stress::crash_smoke_test(pg, &mut report) {
        report.case("stress: with crashes", || Err(error));
    }
    if let Err(error) = crash::smoke_tests(pg, &mut report) {
        report.case("crash", || Err(error));
    }
    if let Err(error) = dump::smoke_tests(pg, &mut report) {
        report.case("dump", || Err(error));
    }
    if let Err(error) = upgrade::smoke_tests(pg, &mut report) {
        report.case("upgrade", || Err(error));
    }
    if let Err(error) = clients::tests(pg, args.all, &mut report) {
        report.case("clients", || Err(error));
    }
    if let Err(error) = migrate::smoke_tests(pg, &mut report) {
        report.case("migrate", || Err(error));
    }
    if let Err(error) = replicas::tests(pg, args.all, &mut report) {
        report.case("replicas", || Err(error));
    }
    if args.all {
        docs::test_book(&mut report);
        if let Err(error) = migrate::package_tests(pg, &mut report) {
            report.case("migrate: other stores' packages", || Err(error));
        }
        report.case("package: installed by apt into a clean system, and used there", || package::test(pg));
    }
    Ok(report.close())
}

/// `cargo xtask check`: format and lints.
pub fn check(pg: &Postgres) -> Result<ExitCode> {
    let mut report = Report::default();
    checks::check(pg, &mut report)?;
    Ok(report.close())
}

/// `cargo xtask pgspot`: the scripts that run as a superuser.
pub fn pgspot(pg: &Postgres) -> Result<ExitCode> {
    let mut report = Report::default();
    pgspot::run(pg, &mut report)?;
    Ok(report.close())
}

/// `cargo xtask unit`: the unit tests.
pub fn unit(pg: &Postgres) -> Result<ExitCode> {
    let mut report = Report::default();
    checks::unit(pg, &mut report)?;
    Ok(report.close())
}

/// `cargo xtask regress` and `isolation`: the selected tests of one suite.
pub fn suite(suite: Suite, selection: &Selection, pg: &Postgres) -> Result<ExitCode> {
    let mut report = Report::default();
    on_server(pg, &mut report, |server, report| {
        if let Err(error) = run_suite(suite, selection, pg, server, report) {
            report.case(suite.name(), || Err(error));
        }
    })?;
    Ok(report.close())
}

/// Builds the extension, starts a server with it for `tests`, and keeps the logs if any of them fails. The build is the
/// development one: it compiles in seconds and keeps the assertions, and no test here measures speed.
pub fn on_server(pg: &Postgres, report: &mut Report, tests: impl FnOnce(&Server, &mut Report)) -> Result<()> {
    let started = Instant::now();
    let extension = match install::build(pg, Profile::Dev) {
        Ok(extension) => extension,
        Err(error) => {
            report.fail("build", 1, started.elapsed(), &error);
            return Ok(());
        }
    };
    let failures_before = report.failures();
    let mut server = match Server::start(pg, &extension, &ServerOptions::default()) {
        Ok(server) => server,
        Err(error) => {
            report.fail("server", 1, started.elapsed(), &error);
            return Ok(());
        }
    };
    tests(&server, report);
    report.case("server log", || server_log::check(&server.log_file()));
    if report.failures() > failures_before {
        println!("logs: {}", server.preserve_logs()?.display());
    }
    Ok(())
}
