//! The scenes of `pg_test/scenes`, as tests beside the isolation specs: `matrix` and `six_cases`.

use anyhow::{Context, Result, ensure};
use refold_scenes::{CASES, CAST, CAST_OF_CASES, Kind, Mode, Operation, PLAYED, Stage, Table, pairs};
use std::fs;

use crate::report::{Report, differences};
use crate::server::Server;
use crate::workspace::Workspace;

/// What can be named like a spec.
pub const NAMES: [&str; 2] = ["matrix", "six_cases"];

/// Where the table is, which is what the tests expect.
const PAGE: &str = "docs/isolation.md";
const OPENING: &str = "<!-- scenes: matrix -->\n```text\n";
const CLOSING: &str = "\n```\n";

/// Plays the scenes with one of [`NAMES`].
pub fn run(name: &str, accept: bool, server: &Server, report: &mut Report) -> Result<()> {
    match name {
        "matrix" => matrix(accept, server, report),
        _ => six_cases(server, report),
    }
}

/// A database with a stage for each kind of handler, its sessions anew where a scene has left them in disorder.
struct Theatre<'a> {
    server: &'a Server,
    name: &'static str,
    cast: &'static [&'static str],
    stages: Vec<(Kind, Stage)>,
}

impl<'a> Theatre<'a> {
    fn open(
        server: &'a Server,
        name: &'static str,
        cast: &'static [&'static str],
        kinds: &[Kind],
    ) -> Result<Self> {
        let mut theatre = Self { server, name, cast, stages: Vec::new() };
        for &kind in kinds {
            server.create_database(&theatre.database(kind))?;
            let mut stage = theatre.stage(kind)?;
            stage.set(&kind.setup())?;
            theatre.stages.push((kind, stage));
        }
        Ok(theatre)
    }

    fn database(&self, kind: Kind) -> String {
        format!("isolation_{}_{}", self.name, kind.name().replace(' ', "_"))
    }

    fn stage(&self, kind: Kind) -> Result<Stage> {
        Stage::connect(&self.server.config(&self.database(kind)), self.cast)
    }

    fn play(&mut self, mut scene: impl FnMut(&mut Stage, Kind) -> Result<()>) -> Result<()> {
        for index in 0..self.stages.len() {
            let kind = self.stages[index].0;
            if let Err(error) = scene(&mut self.stages[index].1, kind) {
                self.stages[index].1 = self.stage(kind)?;
                return Err(error);
            }
        }
        Ok(())
    }
}

fn matrix(accept: bool, server: &Server, report: &mut Report) -> Result<()> {
    let mut theatre = Theatre::open(server, "matrix", &CAST, &PLAYED)?;
    let mut table = Table::default();
    let failures = report.failures();
    for pair in pairs() {
        let [one, other] = pair.map(Operation::name);
        let name = format!("isolation matrix: {one}, {other}");
        report.case(&name, || theatre.play(|stage, kind| table.play(stage, kind, pair)));
    }
    if report.failures() == failures {
        report.case(&format!("isolation matrix: {PAGE}"), || compare(&table.render(), accept));
    }
    Ok(())
}

fn six_cases(server: &Server, report: &mut Report) -> Result<()> {
    let mut theatre = Theatre::open(server, "six_cases", &CAST_OF_CASES, &Kind::ALL)?;
    for mode in Mode::ALL {
        for case in &CASES {
            let name = format!("isolation six_cases: {} ({})", case.name, mode.name());
            report.case(&name, || theatre.play(|stage, kind| case.play(stage, mode, kind)));
        }
    }
    Ok(())
}

/// Fails if the page shows another table, or writes this one there.
fn compare(table: &str, accept: bool) -> Result<()> {
    let path = Workspace::current()?.root.join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let (before, rest) = page.split_once(OPENING).with_context(|| format!("no {OPENING}"))?;
    let (shown, after) = rest.split_once(CLOSING).context("the table does not end")?;
    if accept && shown != table {
        fs::write(&path, [before, OPENING, table, CLOSING, after].concat())?;
        println!("accepted: {PAGE}");
        return Ok(());
    }
    ensure!(shown == table, "it comes out otherwise (--accept writes it)\n{}", differences(shown, table));
    Ok(())
}
