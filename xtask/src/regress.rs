//! Runs the scripts and specs of `pg_test/` with PostgreSQL's own runners, one database each, on one server.
//!
//! Each gets a run of the runner to itself: the exit status is then the verdict, whatever the output format of that
//! PostgreSQL version, and the output folder holds what that one left. They run one after the other: `read_all` and
//! the waits of a rebuild look at every transaction of the cluster, so neighbours would make results depend on time.

use anyhow::{Context, Result, bail, ensure};
use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::logs::copy_tree;
use crate::report::Report;
use crate::scenes;
use crate::server::{self, Server};
use crate::toolchain::Postgres;
use crate::workspace::{EXTENSION, Workspace};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// `pg_test/sql/*.sql`: what one session sees. A script creates the extension itself.
    Regress,
    /// `pg_test/specs/*.spec`: interleavings of several sessions. The extension is there.
    Isolation,
}

impl Suite {
    pub fn name(self) -> &'static str {
        match self {
            Self::Regress => "regress",
            Self::Isolation => "isolation",
        }
    }

    /// Folder and extension of its files below `pg_test/`.
    fn location(self) -> (&'static str, &'static str) {
        match self {
            Self::Regress => ("sql", "sql"),
            Self::Isolation => ("specs", "spec"),
        }
    }
}

/// Which tests to run, and what to do with what they print.
#[derive(Debug, Default, clap::Args)]
pub struct Selection {
    /// Only these, by file name without extension [default: all, by name]
    names: Vec<String>,
    /// Take what the tests print as what is expected from now on: read the diff before you commit it
    #[arg(long)]
    accept: bool,
}

/// Runs the selected tests of `suite`, each a case of `report`.
pub fn run_suite(
    suite: Suite,
    selection: &Selection,
    pg: &Postgres,
    server: &Server,
    report: &mut Report,
) -> Result<()> {
    let pg_test = Workspace::current()?.pg_test();
    let (names, scenes) = select(suite, &pg_test, &selection.names)?;
    let results = server.results_dir().join(suite.name());
    let input = server.results_dir().join(format!("{}.input", suite.name()));
    prepare_input(suite, &pg_test, &input, &names)?;
    for name in &names {
        let output = results.join(name);
        let test =
            Test { suite, name, input: &input, output: &output, expected: expected_file(&pg_test, name) };
        report.case(&format!("{} {name}", suite.name()), || test.run(pg, server, selection.accept));
    }
    // The copies would only be a burden to whoever reads the logs.
    fs::remove_dir_all(&input).context("cannot remove the copied input")?;
    scenes.into_iter().try_for_each(|name| scenes::run(name, selection.accept, server, report))
}

struct Test<'a> {
    suite: Suite,
    name: &'a str,
    input: &'a Path,
    output: &'a Path,
    /// In the source tree.
    expected: PathBuf,
}

impl Test<'_> {
    fn run(&self, pg: &Postgres, server: &Server, accept: bool) -> Result<()> {
        fs::create_dir_all(self.output)?;
        let output = self.command(pg, server).output().context("cannot run the runner")?;
        let known = self.expected.is_file();
        if output.status.success() && known {
            return Ok(());
        }
        let diff = fs::read_to_string(self.output.join("regression.diffs")).unwrap_or_default();
        if diff.is_empty() {
            let (printed, complaints) = (lossy(&output.stdout), lossy(&output.stderr));
            bail!("it left nothing to compare\n{printed}{complaints}");
        }
        if accept {
            println!("{diff}");
            return self.accept();
        }
        bail!("{}{diff}", if known { "" } else { "there is no expected file yet (--accept makes it)\n" })
    }

    fn command(&self, pg: &Postgres, server: &Server) -> Command {
        let runner = match self.suite {
            Suite::Regress => pg.pg_regress(),
            Suite::Isolation => pg.pg_isolation_regress(),
        };
        let mut command = Command::new(runner);
        server::without_pg_environment(&mut command).current_dir(self.output);
        // A test that hangs ends, and its diff shows where.
        command.env("PGOPTIONS", "-c statement_timeout=120s").env("PGISOLATIONTIMEOUT", "60");
        command.arg("--inputdir").arg(self.input).arg("--outputdir").arg(self.output);
        command.arg("--bindir").arg(&pg.bindir).arg("--host").arg(server.socket_dir());
        command.args(["--port", &server.port().to_string(), "--user", server.user()]);
        command.args(["--dbname", &format!("{}_{}", self.suite.name(), self.name)]);
        if self.suite == Suite::Isolation {
            command.args(["--load-extension", EXTENSION]);
        }
        command.arg(self.name);
        command
    }

    fn accept(&self) -> Result<()> {
        let result = self.output.join("results").join(format!("{}.out", self.name));
        fs::copy(&result, &self.expected)
            .with_context(|| format!("cannot take over {}", result.display()))?;
        println!("accepted: {}", self.expected.display());
        Ok(())
    }
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn expected_file(pg_test: &Path, name: &str) -> PathBuf {
    pg_test.join("expected").join(format!("{name}.out"))
}

/// The tests of `suite` that are wanted, in order of name, and the scenes. None at all is a failure: a suite must not
/// pass by being lost.
fn select(suite: Suite, pg_test: &Path, wanted: &[String]) -> Result<(Vec<String>, Vec<&'static str>)> {
    let all = names_in(suite, pg_test)?;
    ensure!(!all.is_empty(), "there are no {} tests in {}", suite.name(), pg_test.display());
    let other = if suite == Suite::Regress { Suite::Isolation } else { Suite::Regress };
    let others = names_in(other, pg_test)?;
    if let Some(name) = all.iter().find(|name| others.contains(name)) {
        bail!("a script and a spec are both called {name}: they would share pg_test/expected/{name}.out");
    }
    let scenes: &[_] = if suite == Suite::Isolation { &scenes::NAMES } else { &[] };
    let known = |name: &str| all.iter().any(|known| known == name) || scenes.contains(&name);
    if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
        let names: Vec<_> = all.iter().map(String::as_str).chain(scenes.iter().copied()).collect();
        bail!("there is no {} test {unknown:?}; there are: {}", suite.name(), names.join(", "));
    }
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let scenes = scenes.iter().copied().filter(|name| is_wanted(name)).collect();
    Ok((all.into_iter().filter(|name| is_wanted(name)).collect(), scenes))
}

fn names_in(suite: Suite, pg_test: &Path) -> Result<Vec<String>> {
    let (folder, extension) = suite.location();
    let folder = pg_test.join(folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension)
            && let Some(stem) = path.file_stem()
        {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// An input folder in which every test has an expected file: the runners give up without, and say nothing about what
/// the test did. The source tree stays as it is.
fn prepare_input(suite: Suite, pg_test: &Path, input: &Path, names: &[String]) -> Result<()> {
    let expected = input.join("expected");
    let (folder, _) = suite.location();
    fs::create_dir_all(&expected)?;
    symlink(pg_test.join(folder), input.join(folder))?;
    if pg_test.join("expected").is_dir() {
        copy_tree(&pg_test.join("expected"), &expected)?;
    }
    for name in names {
        let file = expected_file(input, name);
        if !file.exists() {
            fs::write(&file, "")?;
        }
    }
    Ok(())
}
