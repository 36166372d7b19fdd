//! `cargo xtask stress`: the workload of `pg_test/stress` on a private server, and what the tests run of it.

use anyhow::{Result, anyhow};
use refold_stress::{CONTROLS, Control, Options};
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
    /// Leave out the transactions that close the gate early, and ALTER TABLE: appends wait for those by design
    #[arg(long)]
    short_gates: bool,
    /// Instead: show that what a run looks for would be found
    #[arg(long, conflicts_with_all = ["seconds", "seed", "writers", "runs", "short_gates"])]
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
    let mut server = Server::start(pg, &extension, &ServerOptions::default())?;
    if args.controls {
        let mut report = Report::default();
        controls(&server, &mut report);
        return Ok(report.close());
    }
    println!("a poller without a pause: {} events", follow(&server)?);
    for seed in (args.seed..).take(usize::try_from(args.runs)?) {
        let (seconds, writers, short_gates) = (args.seconds, args.writers, args.short_gates);
        let options = Options { seconds, seed, writers, short_gates, show: true };
        let result = run_once(&server, options).and_then(|report| {
            print!("{report}");
            server_log::check(&server.log_file())
        });
        if let Err(error) = result {
            println!("logs: {}", server.preserve_logs()?.display());
            return Err(error);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_once(server: &Server, options: Options) -> Result<refold_stress::Report> {
    let database = format!("stress_{}", options.seed);
    server.create_database(&database)?;
    let report = refold_stress::run(&server.config(&database), options)?;
    server.drop_database(&database)?;
    Ok(report)
}

/// Appends and a poller alone; gives how many events there were.
fn follow(server: &Server) -> Result<usize> {
    let database = "stress_follow";
    server.create_database(database)?;
    let events = refold_stress::follow(&server.config(database), FOLLOWED)?;
    server.drop_database(database)?;
    Ok(events)
}

/// What `cargo xtask test` runs: the negative controls, a poller at full speed, and 20 s of the workload.
pub fn smoke_tests(server: &Server, report: &mut Report) {
    controls(server, report);
    report.case("stress: a poller without a pause", || follow(server).map(drop));
    report.case("stress: 20 s", || {
        let numbers =
            run_once(server, Options { seconds: 20, seed: 1, writers: 4, ..Options::default() })?.numbers;
        let counts = [numbers.events, numbers.rebuilds.done, numbers.looks, numbers.retried.raced];
        if counts.contains(&0) {
            return Err(anyhow!("nothing was tested: {numbers:#?}"));
        }
        Ok(())
    });
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
