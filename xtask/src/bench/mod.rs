//! `cargo xtask bench`: builds refold optimised, starts a server, installs the peers, and has the crate in `bench`
//! measure.

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::install::{self, Profile};
use crate::peers::{self, Peer};
use crate::report::Report;
use crate::server::{Server, ServerOptions};
use crate::server_log;
use crate::toolchain::Postgres;
use crate::workspace::Workspace;

/// The options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(default_value = "full")]
    plan: Plan,
    /// The same as `quick`
    #[arg(long)]
    quick: bool,
    /// The other event stores to measure
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    peers: Option<Vec<Peer>>,
    /// Measure no other event store
    #[arg(long, conflicts_with = "peers")]
    no_peers: bool,
    /// Measure only the cases whose names have this in them, e.g. `rebuild fold`
    #[arg(long, default_value = "", value_name = "TEXT")]
    only: String,
    /// Measure nothing, but write the tables and plots of this folder's results.json anew
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["peers", "no_peers", "only", "out"])]
    redraw: Option<PathBuf>,
    /// Where the results go [default: target/bench/<time>]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Plan {
    /// Everything, at every size, beside the peers: about an hour
    Full,
    /// The ratios that refold is held to: under ten minutes
    Quick,
    /// Appends during rebuilds, of models of 1k, 50k and 1M rows
    Stall,
    /// Everything, tiny: whether all of it works
    Smoke,
}

/// As a server is for real use: commits reach the disk, unless a case says otherwise.
const SETTINGS: [(&str, &str); 6] = [
    ("fsync", "on"),
    ("shared_buffers", "'1GB'"),
    ("max_wal_size", "'16GB'"),
    ("checkpoint_timeout", "'30min'"),
    ("jit", "off"),
    ("work_mem", "'4MB'"),
];

pub fn run(pg: &Postgres, args: &Args) -> Result<ExitCode> {
    let plan = if args.quick { Plan::Quick } else { args.plan };
    // Only the full plan has cases that the peers take part in by default.
    let default = if plan == Plan::Full { Peer::value_variants() } else { &[] };
    let peers = if args.no_peers { &[] } else { args.peers.as_deref().unwrap_or(default) };
    let workspace = Workspace::current()?;
    if let Some(folder) = &args.redraw {
        let mut bench = program(&workspace, Profile::Dev);
        let status = bench.arg("redraw").arg(std::path::absolute(folder)?).status();
        return Ok(if status.context("cannot run cargo")?.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let installed = peers::install(peers, &workspace)?;
    let out = match &args.out {
        Some(out) => std::path::absolute(out)?,
        None => {
            let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            workspace.target.join("bench").join(seconds.to_string())
        }
    };
    let extension = install::build(pg, Profile::Release)?;
    let server = Server::start(pg, &extension, &ServerOptions::with(&SETTINGS))?;
    let mut bench = command(&workspace, &server, plan, Profile::Release)?;
    bench.arg("--out").arg(out).arg("--installed").arg(installed).args(["--only", &args.only]);
    let names: Vec<_> = peers.iter().map(|peer| peer.name()).collect();
    bench.args((!names.is_empty()).then(|| format!("--peers={}", names.join(","))));
    let status = bench.status().context("cannot run cargo")?;
    // A peer may leave what it likes there.
    if peers.is_empty() {
        server_log::check(&server.log_file())?;
    }
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `cargo xtask test` runs: every case, tiny; each checks that its work was done.
pub fn smoke_test(server: &Server, report: &mut Report) {
    report.case("bench", || {
        let output = command(&Workspace::current()?, server, Plan::Smoke, Profile::Dev)?
            .output()
            .context("cannot run cargo")?;
        if !output.status.success() {
            bail!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    });
}

/// A program of its own, so that the load is optimised even where xtask is not.
fn program(workspace: &Workspace, profile: Profile) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["run", "--quiet", "--package", "refold-bench"]);
    cargo.args((profile == Profile::Release).then_some("--release")).arg("--");
    cargo
}

fn command(workspace: &Workspace, server: &Server, plan: Plan, profile: Profile) -> Result<Command> {
    let mut cargo = program(workspace, profile);
    let plan = plan.to_possible_value().context("the plan has no name")?;
    cargo.arg("measure").arg(plan.get_name()).arg("--host").arg(server.socket_dir());
    cargo.args([
        "--port",
        &server.port().to_string(),
        "--user",
        server.user(),
        "--commit",
        &commit(workspace),
    ]);
    Ok(cargo)
}

/// The commit of the source, and whether it has changed since; whoever has no git has no commit.
fn commit(workspace: &Workspace) -> String {
    let mut git = Command::new("git");
    git.current_dir(&workspace.root).args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    let printed = git.output().map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    printed.ok().filter(|commit| !commit.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}
