//! `cargo xtask endurance`: what failures and interrupts leave in their session, on a private server.

use anyhow::Result;
use postgres::Config;
use refold_stress::{Answered, Kept};
use std::process::ExitCode;

use crate::report::Report;
use crate::server::Server;
use crate::test;
use crate::toolchain::Postgres;

/// The options of `cargo xtask endurance`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often one session fails in each way
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(500..))]
    failures: u32,
    /// How many events the log has whose replay is interrupted
    #[arg(long, default_value_t = 50_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1000..=100_000))]
    events: u32,
}

/// Prints how the memory has grown in each way, and how long each operation took to answer.
pub fn run(pg: &Postgres, args: &Args) -> Result<ExitCode> {
    let mut report = Report::default();
    test::on_server(pg, &mut report, |server, report| {
        let (kept, answers) = cases(server, report, args);
        kept.iter().for_each(|kept| println!("{kept}"));
        answers.iter().for_each(|answered| println!("{answered}"));
    })?;
    Ok(report.close())
}

/// What `cargo xtask test` runs.
pub fn smoke_tests(server: &Server, report: &mut Report) {
    cases(server, report, &Args { failures: 500, events: 3000 });
}

fn cases(server: &Server, report: &mut Report, args: &Args) -> (Vec<Kept>, Vec<Answered>) {
    let (mut kept, mut answers) = (Vec::new(), Vec::new());
    report.case("endurance: leaks", || {
        in_database(server, "endurance_leaks", |config| {
            kept = refold_stress::leaks(config, args.failures)?;
            Ok(())
        })
    });
    report.case("endurance: interrupts", || {
        in_database(server, "endurance_interrupts", |config| {
            answers = refold_stress::interrupts(config, args.events)?;
            Ok(())
        })
    });
    (kept, answers)
}

fn in_database(server: &Server, name: &str, test: impl FnOnce(&Config) -> Result<()>) -> Result<()> {
    server.create_database(name)?;
    test(&server.config(name))?;
    server.drop_database(name)
}
