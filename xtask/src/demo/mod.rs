//! The demo: appends and rebuilds race on a private server, first on refold, then on the published protocol, and plain
//! SQL says what each has lost; or a git repository's history is replayed into the log.

mod client;
mod git;
mod load;
mod plan;
mod protocol;
mod sql_error;
mod stats;
mod verdict;
mod view;

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::install::{self, Profile};
use crate::server::{Server, ServerOptions};
use crate::toolchain::Postgres;
use crate::workspace::Workspace;
use load::Load;
use protocol::Protocol;
use verdict::{Comparison, Verdict};

/// The options of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long the shop is open, on each of the two stores
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many clients append
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    writers: u64,
    /// What the clients do is drawn from this number: the same number, the same orders
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Compile the extension without optimisation: quicker to start, slower to run
    #[arg(long)]
    debug: bool,
    /// Instead of the shop: replay the history of the git repository at PATH
    #[arg(long, value_name = "PATH", conflicts_with_all = ["seconds", "writers", "seed"])]
    git: Option<PathBuf>,
}

/// A named test on a running server that has no database of refold's yet.
pub type SmokeTest = (&'static str, fn(&Server) -> Result<()>);

/// Runs the demo; fails if refold lost anything.
pub fn run(pg: &Postgres, args: &Args) -> Result<()> {
    let profile = if args.debug { Profile::Dev } else { Profile::Release };
    let extension = install::build(pg, profile)?;
    let server = Server::start(pg, &extension, &ServerOptions::default())?;
    run_on(&server, pg, args)
}

fn run_on(server: &Server, pg: &Postgres, args: &Args) -> Result<()> {
    let (duration, writers, seed) = (Duration::from_secs(args.seconds), args.writers, args.seed);
    if let Some(repository) = &args.git {
        return run_git(server, "demo_git", repository, |text| println!("{text}"));
    }
    println!(
        "A shop on {}: {writers} clients append to carts, one more is late on purpose, and the two read\n\
         models are rebuilt back to back, with alternating handlers. Seed {seed}.\n",
        pg.version
    );
    let refold = run_shop(server, Load { protocol: Protocol::Refold, duration, writers, seed, show: true })?;
    let published =
        run_shop(server, Load { protocol: Protocol::Published, duration, writers, seed, show: true })?;
    println!("\n{}", Comparison { refold: &refold, published: &published });
    keep_promise(&refold)
}

/// Fails with all that is wrong.
fn keep_promise(verdict: &Verdict) -> Result<()> {
    let faults = verdict.faults();
    ensure!(faults.is_empty(), "refold did not keep its promise: {}", faults.join(", "));
    ensure!(verdict.numbers.rebuilds.done > 0, "no rebuild got through");
    Ok(())
}

fn run_shop(server: &Server, load: Load) -> Result<Verdict> {
    let database = load.protocol.database();
    server.create_database(database)?;
    let config = server.config(database);
    load.protocol.set_up(&config)?;
    let outcome = load::run(&config, load)?;
    Verdict::reach(&config, &outcome)
}

fn run_git(server: &Server, database: &str, repository: &Path, say: impl Fn(String)) -> Result<()> {
    server.create_database(database)?;
    git::run(&server.config(database), repository, say)
}

/// What `cargo xtask test` runs of the demo.
pub fn smoke_tests() -> Vec<SmokeTest> {
    vec![
        ("demo: refold loses nothing", |server| keep_promise(&run_shop(server, short(Protocol::Refold))?)),
        ("demo: the published protocol loses events", |server| {
            let verdict = run_shop(server, short(Protocol::Published))?;
            ensure!(verdict.lost > 0, "the blind spot was not hit: {verdict:#?}");
            Ok(())
        }),
        ("demo: a git history with renames", |server| {
            run_git(server, "demo_git_sample", git::sample_repository()?.path(), |_| {})
        }),
        ("demo: a repository without commits is refused", |server| {
            let empty = git::empty_repository()?;
            let result = run_git(server, "demo_git_empty", empty.path(), |_| {});
            let error = result.err().context("a history was found")?;
            ensure!(format!("{error:#}").contains("has no commits yet"), error);
            Ok(())
        }),
        ("demo: the history of this repository", |server| {
            run_git(server, "demo_git_own", &Workspace::current()?.root, |_| {})
        }),
    ]
}

/// A run of the tests: the straggler hits the blind spot within seconds, whatever chance does.
fn short(protocol: Protocol) -> Load {
    Load { protocol, duration: Duration::from_secs(3), writers: 4, seed: 1, show: false }
}
