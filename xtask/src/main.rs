//! Everything a developer of refold does, as `cargo xtask ...`: this file says what there is and calls it.

mod account;
mod demo;
mod install;
mod interrupt;
mod logs;
mod packages;
mod play;
mod server;
mod stage;
mod toolchain;
mod workdir;
mod workspace;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use nix::sys::stat::{Mode, umask};
use std::path::PathBuf;
use std::process::ExitCode;

use install::Profile;

/// Builds, tests and shows refold, on private throw-away servers: no system cluster is ever touched.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    /// The pg_config of the PostgreSQL to work with [default: $PGRX_PG_CONFIG_PATH, else the first one found]
    #[arg(long, global = true, value_name = "PATH")]
    pg_config: Option<PathBuf>,

    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Watch appends and rebuilds race, with nothing lost
    Demo(demo::Args),
    /// A server with refold to play with: opens psql, and is gone afterwards
    Psql(play::PsqlArgs),
    /// Compile the extension and generate its install script
    Build(BuildArgs),
    /// Install refold into the PostgreSQL that pg_config names, for real use
    Install(BuildArgs),
    /// Install the packages that building and testing need (as root, on Debian)
    Bootstrap,
}

#[derive(Args)]
struct BuildArgs {
    /// Optimised; `install` always is
    #[arg(long)]
    release: bool,
}

impl BuildArgs {
    fn profile(&self) -> Profile {
        if self.release { Profile::Release } else { Profile::Dev }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    // The server's user reads what we write.
    umask(Mode::from_bits_truncate(0o022));
    interrupt::listen()?;
    let pg = packages::provide(cli.pg_config.as_deref())?;
    match cli.task {
        Task::Demo(args) => demo::run(&pg, &args),
        Task::Psql(args) => play::open_psql(&pg, &args),
        Task::Build(args) => play::build(&pg, args.profile()),
        Task::Install(_) => play::install(&pg),
        Task::Bootstrap => {
            println!("all that is needed is there, with {}", pg.version);
            Ok(())
        }
    }
}
