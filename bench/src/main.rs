//! Measures refold beside what one would write by hand and beside other event stores, on one server.
//!
//! `plan` says which cases there are, `measure` and `stall` run them, `system` has an adapter for each system, `results`
//! holds what came out, `headline` the ratios that refold is held to. `cargo xtask bench` calls this with a server.

mod case;
mod database;
mod events;
mod headline;
mod load;
mod machine;
mod measure;
mod memory;
mod models;
mod plan;
mod plot;
mod print;
mod processor;
mod results;
mod stall;
mod system;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use database::Server;
use machine::Machine;
use measure::Bench;
use plan::Plan;
use results::Results;

/// Measures refold and others.
#[derive(Parser)]
enum Task {
    /// On the server that it is given
    Measure(Args),
    /// Nothing: writes the tables and plots of a folder's results.json anew
    Redraw { folder: PathBuf },
}

#[derive(clap::Args)]
struct Args {
    plan: Plan,
    /// The folder of the server's socket
    #[arg(long)]
    host: PathBuf,
    #[arg(long)]
    port: u16,
    /// A superuser
    #[arg(long)]
    user: String,
    /// The commit that refold was built from
    #[arg(long)]
    commit: String,
    /// Only the cases whose names it is a part of
    #[arg(long, default_value = "")]
    only: String,
    /// The peers to measure too
    #[arg(long, value_delimiter = ',')]
    peers: Vec<system::Peer>,
    /// Where peers are installed, each in a folder of its own
    #[arg(long, default_value = "target/bench-peers")]
    installed: PathBuf,
    /// Where the results go: results.json, tables.md and plots; none are written without it
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Measure(args) => measure(&args),
        Task::Redraw { folder } => redraw(&folder),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<()> {
    let server = Server { host: args.host.clone(), port: args.port, user: args.user.clone() };
    let plan = format!("{:?}", args.plan).to_lowercase();
    let mut results = Results {
        machine: Machine::read(&server, &args.commit, &plan)?,
        cells: Vec::new(),
        ratios: Vec::new(),
    };
    let systems = system::all(&args.peers, &args.installed);
    for system in &systems {
        results.machine.systems.insert(system.name().to_owned(), system.version());
    }
    let bench = Bench { server: &server, systems: &systems, effort: args.plan.effort() };
    args.plan.run(&bench, &args.only, &mut |cell| {
        eprintln!("  {}", cell.name);
        results.cells.push(cell);
        results.ratios = headline::ratios(&results.cells);
        // After each cell: a long run that is interrupted keeps what it has.
        args.out.iter().try_for_each(|out| write(&results, out))
    })?;
    ensure!(!results.cells.is_empty(), "no case's name has {:?} in it", args.only);
    println!("{}\n\n{}", print::cells(&results.cells), print::ratios(&results.ratios));
    let Machine { date, commit, postgresql, processors, load_before, .. } = &results.machine;
    println!(
        "\n{date}, refold {commit}, PostgreSQL {postgresql}, {processors} processors, load {load_before} before"
    );
    if let Some(out) = &args.out {
        plot::draw_all(&results.cells, out)?;
        println!("{}", out.display());
    }
    Ok(())
}

fn redraw(folder: &Path) -> Result<()> {
    let file = folder.join("results.json");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut results: Results = serde_json::from_str(&text)?;
    results.ratios = headline::ratios(&results.cells);
    write(&results, folder)?;
    plot::draw_all(&results.cells, folder)
}

fn write(results: &Results, out: &Path) -> Result<()> {
    let write = || -> Result<()> {
        fs::create_dir_all(out)?;
        fs::write(out.join("results.json"), serde_json::to_string_pretty(results)?)?;
        let tables = format!("{}\n\n{}\n", print::ratios(&results.ratios), print::cells(&results.cells));
        Ok(fs::write(out.join("tables.md"), tables)?)
    };
    write().with_context(|| format!("cannot write to {}", out.display()))
}
