//! Everything a developer of refold does, as `cargo xtask ...`: this file says what there is and calls it.

mod account;
mod bench;
mod checks;
mod clients;
mod crash;
mod demo;
mod doc_sql;
mod docs;
mod dump;
mod endurance;
mod install;
mod interrupt;
mod logs;
mod migrate;
mod model;
mod package;
mod packages;
mod peers;
mod pgspot;
mod play;
mod regress;
mod replicas;
mod report;
mod scenes;
mod server;
mod server_log;
mod small_disk;
mod stage;
mod stress;
mod test;
mod toolchain;
mod unpacked;
mod upgrade;
mod workdir;
mod workspace;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use nix::sys::stat::{Mode, umask};
use std::path::PathBuf;
use std::process::ExitCode;

use install::Profile;
use regress::{Selection, Suite};

/// Builds, tests and shows refold, on private throw-away servers: no system cluster is ever touched.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    /// The pg_config of the PostgreSQL to work with [default: $PGRX_PG_CONFIG_PATH, else the first one found]
    #[arg(long, global = true, value_name = "PATH")]
    pg_config: Option<PathBuf>,

    /// Work with this major version of PostgreSQL, and get it if it is not there: 15, 16, 17 or 18
    #[arg(long, global = true, value_name = "MAJOR", conflicts_with = "pg_config",
          value_parser = clap::value_parser!(u32).range(15..=18))]
    pg: Option<u32>,

    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Watch appends and rebuilds race, with nothing lost
    Demo(demo::Args),
    /// Append, rebuild, cancel and end sessions at random, and compare every snapshot with the log
    Stress(stress::Args),
    /// Kill backends and the server at every phase of an append and a rebuild, and look what is left
    Crash(crash::Args),
    /// Fail and be interrupted in every way, thousands of times in one session: nothing may be left in it
    Endurance(endurance::Args),
    /// Dump and restore in every way, and look whether the store goes on
    Dump(dump::Args),
    /// Upgrade from every released version, and compare with a fresh installation object by object
    Upgrade(upgrade::Args),
    /// Run the documentation's clients, each in its language, while others append and hold its rebuild back
    Clients(clients::Args),
    /// Copy what other event stores have written into refold's log, and compare event by event
    Migrate(migrate::Args),
    /// Replicate, pool, recover to a point in time and pg_upgrade: what a store is elsewhere and afterwards
    Replicas(replicas::Args),
    /// Measure refold beside bare SQL and other event stores
    Bench(bench::Args),
    /// Run every test: format, lints, unit, pgspot, regress, isolation, the documentation, the demo's, stress, crashes,
    /// dumps, upgrades, migrations, replicas, endurance, bench
    Test(test::Args),
    /// Check the documentation, and build the book of it
    Docs(docs::Args),
    /// Explore every interleaving of small instances of the protocols: those that lose events, and refold's
    Model(model::Args),
    /// Run the pg_regress scripts of pg_test/sql
    Regress(Selection),
    /// Run the pg_isolation_regress specs of pg_test/specs, and the scenes: matrix, six_cases
    Isolation(Selection),
    /// Check format and lints, warnings denied
    Check,
    /// Look with pgspot for what could lead the scripts astray that run as a superuser
    Pgspot,
    /// Run the unit tests: pure Rust, no server
    Unit,
    /// A server with refold to play with: opens psql, and is gone afterwards
    Psql(play::PsqlArgs),
    /// Compile the extension and generate its install script
    Build(BuildArgs),
    /// Install refold into the PostgreSQL that pg_config names, for real use
    Install,
    /// Make a Debian package of it, postgresql-15-refold
    Package(package::Args),
    /// Install the packages that building and testing need (as root, on Debian)
    Bootstrap,
}

#[derive(Args)]
struct BuildArgs {
    /// Optimised
    #[arg(long)]
    release: bool,
}

impl BuildArgs {
    fn profile(&self) -> Profile {
        if self.release { Profile::Release } else { Profile::Dev }
    }
}

fn main() -> ExitCode {
    let result = run(Cli::parse());
    interrupt::stand_still_if_interrupted();
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    // The server's user reads what we write.
    umask(Mode::from_bits_truncate(0o022));
    interrupt::listen()?;
    let pg = match cli.pg {
        Some(major) => packages::provide_version(major)?,
        None => packages::provide(cli.pg_config.as_deref())?,
    };
    match cli.task {
        Task::Demo(args) => demo::run(&pg, &args)?,
        Task::Stress(args) => return stress::run(&pg, &args),
        Task::Crash(args) => return crash::run(&pg, &args),
        Task::Endurance(args) => return endurance::run(&pg, &args),
        Task::Dump(args) => return dump::run(&pg, &args),
        Task::Upgrade(args) => return upgrade::run(&pg, &args),
        Task::Clients(args) => return clients::run(&pg, &args),
        Task::Migrate(args) => return migrate::run(&pg, &args),
        Task::Replicas(args) => return replicas::run(&pg, &args),
        Task::Bench(args) => return bench::run(&pg, &args),
        Task::Test(args) => return test::all(&pg, &args),
        Task::Docs(args) => return docs::run(&pg, &args),
        Task::Model(args) => return model::run(&args),
        Task::Regress(selection) => return test::suite(Suite::Regress, &selection, &pg),
        Task::Isolation(selection) => return test::suite(Suite::Isolation, &selection, &pg),
        Task::Check => return test::check(&pg),
        Task::Pgspot => return test::pgspot(&pg),
        Task::Unit => return test::unit(&pg),
        Task::Psql(args) => play::open_psql(&pg, &args)?,
        Task::Build(args) => play::build(&pg, args.profile())?,
        Task::Install => play::install(&pg)?,
        Task::Package(args) => package::run_task(&pg, &args)?,
        Task::Bootstrap => println!("all that is needed is there, with {}", pg.version),
    }
    Ok(ExitCode::SUCCESS)
}
