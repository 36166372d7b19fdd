//! `cargo xtask stress`: the workload of `pg_test/stress` on a private server, and what the tests run of it.

use anyhow::{Result, anyhow};
use refold_stress::{CONTROLS, Control, Crash, Options};
use std::process::ExitCode;
use std::time::Duration;

use crate::install::{self, Profile};
use crate::report::Report;
use crate::server::{Server, ServerOptions};
use crate::server_log;
use crate::toolchain::Postgres;

/// The options of `cargo xtask stress`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long appends and rebuilds go on
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// What the clients do is drawn from this number: the same number, the same plans
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// How many clients append
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    writers: u64,
    /// How many runs, each with the next seed and a database of its own
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Kill the postmaster, workers and clients' backends meanwhile
    #[arg(long)]
    crashes: bool,
    /// Load the library with the server: its launcher resumes jobs after a crash
    #[arg(long)]
    preload: bool,
    /// Leave out the transactions that close the gate early, and ALTER TABLE: appends wait for those by design
    #[arg(long)]
    short_gates: bool,
    /// Instead: show that what a run looks for would be found
    #[arg(long, conflicts_with_all = ["seconds", "seed", "writers", "runs", "short_gates", "crashes", "preload"])]
    controls: bool,
    /// Compile the extension without optimisation, with its assertions
    #[arg(long)]
    debug: bool,
}

/// How long a poller follows appends without a pause.
const FOLLOWED: Duration = Duration::from_secs(12);

/// Runs the workload; fails at the first run that finds something.
pub fn run(pg: &Postgres, args: &Args) -> Result<ExitCode> {
    let profile = if args.debug { Profile::Dev } else { Profile::Release };
    let extension = install::build(pg, profile)?;
    let mut settings = Vec::new();
    if args.preload {
        settings.push(preloaded());
    }
    let mut server = Server::start(pg, &extension, &ServerOptions { settings, ..ServerOptions::default() })?;
    if args.controls {
        let mut report = Report::default();
        controls(&server, &mut report);
        return Ok(report.close());
    }
    println!("a poller without a pause: {} events", follow(&server)?);
    let mut killed = 0;
    for seed in (args.seed..).take(usize::try_from(args.runs)?) {
        let (seconds, writers, short_gates) = (args.seconds, args.writers, args.short_gates);
        let options = Options { seconds, seed, writers, short_gates, show: true };
        let result = run_once(&server, options, args.crashes).and_then(|report| {
            print!("{report}");
            killed += usize::try_from(report.killed_backends())?;
            server_log::check_after_random_kills(&server.log_file(), killed)
        });
        if let Err(error) = result {
            println!("logs: {}", server.preserve_logs()?.display());
            return Err(error);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_once(server: &Server, options: Options, crashes: bool) -> Result<refold_stress::Report> {
    let database = format!("stress_{}", options.seed);
    server.create_database(&database)?;
    let config = server.config(&database);
    let report = match crashes {
        false => refold_stress::run(&config, options)?,
        true => refold_stress::run_with_crashes(&config, options, &|what| crash(server, what))?,
    };
    server.drop_database(&database)?;
    Ok(report)
}

fn crash(server: &Server, what: Crash) -> Result<bool> {
    match what {
        Crash::Postmaster => {
            server.kill_postmaster()?;
            server.restart()?;
            Ok(true)
        }
        Crash::Backend(pid) => {
            let killed = server.kill_backend(pid)?;
            server.wait_until_recovered()?;
            Ok(killed)
        }
    }
}

/// Appends and a poller alone; gives how many events there were.
fn follow(server: &Server) -> Result<usize> {
    let database = "stress_follow";
    server.create_database(database)?;
    let events = refold_stress::follow(&server.config(database), FOLLOWED)?;
    server.drop_database(database)?;
    Ok(events)
}

/// What `cargo xtask test` runs: the negative controls, a poller at full speed, and 12 s of the workload; the rest of it is
/// [`crash_smoke_test`].
pub fn smoke_tests(server: &Server, report: &mut Report) {
    controls(server, report);
    report.case("stress: a poller without a pause", || follow(server).map(drop));
    report.case("stress: 12 s", || {
        let options = Options { seconds: 12, seed: 1, writers: 4, ..Options::default() };
        let numbers = run_once(server, options, false)?.numbers;
        let jobs = numbers.deeds_like("looks while");
        let counts = [numbers.events, numbers.rebuilds.done, jobs, numbers.looks, numbers.retried.raced];
        if counts.contains(&0) {
            return Err(anyhow!("nothing was tested: {numbers:#?}"));
        }
        Ok(())
    });
}

/// On a server of its own, which has the library preloaded and is brought down again and again.
pub fn crash_smoke_test(pg: &Postgres, report: &mut Report) -> Result<()> {
    let extension = install::build(pg, Profile::Dev)?;
    let settings = vec![preloaded()];
    let mut server = Server::start(pg, &extension, &ServerOptions { settings, ..ServerOptions::default() })?;
    let failures_before = report.failures();
    report.case("stress: 8 s with crashes", || {
        let options = Options { seconds: 8, seed: 2, writers: 4, ..Options::default() };
        let run = run_once(&server, options, true)?;
        if run.numbers.deeds_like("killed") == 0 || run.numbers.events == 0 {
            return Err(anyhow!("nothing was tested: {:#?}", run.numbers));
        }
        server_log::check_after_random_kills(&server.log_file(), usize::try_from(run.killed_backends())?)
    });
    if report.failures() > failures_before {
        println!("logs: {}", server.preserve_logs()?.display());
    }
    Ok(())
}

fn preloaded() -> (String, String) {
    ("shared_preload_libraries".to_owned(), "'refold'".to_owned())
}

fn controls(server: &Server, report: &mut Report) {
    for (number, Control { name, run }) in CONTROLS.iter().enumerate() {
        report.case(&format!("stress: {name}"), || {
            let database = format!("stress_control_{number}");
            server.create_database(&database)?;
            run(&server.config(&database))
        });
    }
}
