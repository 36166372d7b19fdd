//! `cargo xtask crash`: what a crash leaves, at every phase of an append and a rebuild, and where something runs out.
//!
//! `world` is the database that is hit and `ledger` what its clients were told; `victim` says who comes to which
//! waitpoint, `case` parks and kills it there, `checks` looks at everything afterwards. `scarce` has no crash, but a
//! full disk, a full lock table, no connection left. `unlogged` has rebuilds that were undone just before; `late_failure` is an
//! append that comes at the worst moment, `idlers` are transactions that do not end; `launcher` has jobs that nobody resumes;
//! `standby` reads on another server, which `promotion` makes the primary. `controls` breaks things and wants them found.

pub mod case;
pub mod checks;
mod controls;
mod idlers;
mod imported;
mod late_failure;
mod launcher;
pub mod ledger;
mod prepared;
mod promotion;
mod run;
mod scarce;
mod standby;
mod unflushed;
mod unlogged;
mod victim;
pub mod world;

use anyhow::{Result, ensure};
use std::process::ExitCode;

use crate::install::{self, Extension, Profile};
use crate::report::Report;
use crate::server::{Server, ServerOptions};
use crate::server_log;
use crate::toolchain::Postgres;
pub use case::wait_for;
use case::{CRASHES, Case, KILLS, Kill, Place};
use run::Run;
use victim::VICTIMS;
use world::World;
pub use world::explain;

/// The options of `cargo xtask crash`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the cases whose name has this in it
    #[arg(value_name = "TEXT")]
    only: Option<String>,
    /// Each place once, the victims and the ways to be killed in turn: what `cargo xtask test` runs
    #[arg(long)]
    sample: bool,
}

pub fn run(pg: &Postgres, args: &Args) -> Result<ExitCode> {
    let mut report = Report::default();
    all(pg, args.sample, args.only.as_deref().unwrap_or_default(), &mut report)?;
    Ok(report.close())
}

/// What `cargo xtask test` runs.
pub fn smoke_tests(pg: &Postgres, report: &mut Report) -> Result<()> {
    all(pg, true, "", report)
}

fn all(pg: &Postgres, sample: bool, only: &str, report: &mut Report) -> Result<()> {
    let extension = install::build_with(pg, Profile::Dev, &["waitpoints"])?;
    let mut run = Run::new(report, only);
    on_server(pg, &extension, &options(), &mut run, |server, run| crashes(server, sample, run))?;
    on_server(pg, &extension, &scarce::options()?, &mut run, |server, run| {
        scarce::run(server, run)?;
        Ok(0)
    })?;
    on_server(pg, &extension, &launcher::options(), &mut run, launcher::run)?;
    on_server(pg, &extension, &standby::primary_options(), &mut run, |primary, run| {
        let standby = Server::start_standby(pg, &extension, &standby::options(), primary)?;
        standby::run(primary, standby, run)?;
        Ok(0)
    })?;
    on_server(pg, &extension, &options(), &mut run, |server, run| {
        controls::run(server, run);
        Ok(0)
    })?;
    ensure!(run.ran() > 0, "no case has {only:?} in its name");
    Ok(())
}

/// A server on which a commit that wants to be synchronous waits for ever, with its record on disk; and an asynchronous
/// one stays in memory for as long as can be, for nobody writes anything by the way.
fn options() -> ServerOptions {
    ServerOptions::with(&[
        ("synchronous_standby_names", "'nobody'"),
        ("synchronous_commit", "local"),
        ("wal_writer_delay", "'10s'"),
        ("autovacuum", "off"),
        ("bgwriter_lru_maxpages", "0"),
        ("checkpoint_timeout", "'1h'"),
    ])
}

/// Starts a server for `cases`, which say how many backends they have killed, and looks into its log in the end.
fn on_server(
    pg: &Postgres,
    extension: &Extension,
    options: &ServerOptions,
    run: &mut Run,
    cases: impl FnOnce(&Server, &mut Run) -> Result<usize>,
) -> Result<()> {
    if run.has_failed() {
        return Ok(());
    }
    let mut server = Server::start(pg, extension, options)?;
    let ran_before = run.ran();
    let killed = cases(&server, run)?;
    if run.ran() > ran_before && !run.has_failed() {
        run.closing_case("server log", || server_log::check_after_kills(&server.log_file(), killed));
    }
    if run.has_failed() {
        println!("logs: {}", server.preserve_logs()?.display());
    }
    Ok(())
}

/// One crash after another, in one database: what one has left, the next would show.
fn crashes(server: &Server, sample: bool, run: &mut Run) -> Result<usize> {
    let mut killed = 0;
    let mut count = |ran: bool, kill: Kill| killed += usize::from(ran && kill == Kill::Backend);
    let mut world = World::create(server)?;
    for case in cases(&world, sample)? {
        count(run.case(&case.name(), || case.run(&mut world)), case.kill);
    }
    for kill in CRASHES {
        let name = format!("{}, after commits that are not on disk", kill.name());
        count(run.case(&name, || unflushed::run(kill, &mut world)), kill);
        let name = format!("{}, with appends prepared", kill.name());
        count(run.case(&name, || prepared::run(kill, &mut world)), kill);
    }
    for undone in &unlogged::UNDONE {
        run.case(&format!("postmaster killed, after {}", undone.name), || unlogged::run(undone, &mut world));
    }
    run.case("errors that a handler catches, and the disk", || unlogged::no_files(&mut world));
    run.case(late_failure::NAME, || late_failure::run(&mut world));
    run.case(idlers::NAME, || idlers::run(&mut world));
    Ok(killed)
}

/// Every place, with each victim that comes there, killed either way; of a sample, with one of them in turn. A waitpoint
/// to which nobody comes is a fault.
fn cases(world: &World, sample: bool) -> Result<Vec<Case>> {
    let mut client = world.connect_passing()?;
    let names: Vec<String> = client.query_one("SELECT waitpoints()", &[]).map_err(explain)?.try_get(0)?;
    let commits = [Place::BeforeCommit, Place::AfterCommitRecord];
    let places = names.into_iter().map(Place::Waitpoint).chain(commits);
    let mut cases = Vec::new();
    for (number, place) in places.enumerate() {
        let mut here = Vec::new();
        for victim in VICTIMS.iter().filter(|victim| victim.comes_to(&place)) {
            here.extend(KILLS.map(|kill| Case { place: place.clone(), victim, kill }));
        }
        ensure!(!here.is_empty(), "nobody comes to \"{}\"", place.name());
        if sample {
            here.drain(..number % here.len());
            here.truncate(1);
        }
        cases.append(&mut here);
    }
    Ok(cases)
}
