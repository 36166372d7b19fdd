//! `cargo xtask pgspot`: whether the scripts that run as a superuser can be led astray, as pgspot sees it.
//!
//! pgspot reads SQL and reports names, operators and functions that would be looked up on a search_path that somebody else
//! may control. There are no exemptions.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install::{self, Extension, Profile};
use crate::packages;
use crate::report::Report;
use crate::toolchain::Postgres;
use crate::upgrade::{Releases, Script};
use crate::workspace::{self, Workspace};

/// What `pip` installs, into a folder of this checkout.
const PACKAGES: [&str; 2] = ["pgspot==0.9.4", "pglast==7.21"];

const CLEAN: &str = "Errors: 0 Warnings: 0 Unknown: 0";

/// What pgspot must object to, or it is not at work: the mistakes that an install script can make.
const FAULTY: [&str; 4] = [
    "CREATE SCHEMA IF NOT EXISTS refold;",
    "CREATE FUNCTION refold.f() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT count(*) FROM t $$;",
    "CREATE VIEW refold.v AS SELECT c.relname FROM pg_catalog.pg_class AS c WHERE c.relname = 'x';",
    "CREATE OR REPLACE FUNCTION refold.f() RETURNS int LANGUAGE c AS 'MODULE_PATHNAME', 'f';",
];

/// `cargo xtask pgspot`.
pub fn run(pg: &Postgres, report: &mut Report) -> Result<()> {
    let extension = install::build(pg, Profile::Dev)?;
    let workspace = Workspace::current()?;
    let folder = workspace.target.join("pgspot");
    let program = match provide(&folder) {
        Ok(program) => program,
        Err(error) => {
            report.case("pgspot", || Err(error));
            return Ok(());
        }
    };
    for Script { name, text } in scripts(&extension)? {
        let file = folder.join(&name);
        fs::write(&file, text)?;
        report.case(&format!("pgspot {name}"), || check(&program, &file));
    }
    report.case("pgspot: controls", || controls(&program, &folder));
    Ok(())
}

/// The scripts of `CREATE EXTENSION` and `ALTER EXTENSION`, by the names under which they are installed. A step goes after
/// the script of the version that it begins at: only so pgspot knows what it replaces.
fn scripts(extension: &Extension) -> Result<Vec<Script>> {
    let releases = Releases::read(&Workspace::current()?)?;
    let mut scripts = vec![Script { name: extension.script_name(), text: extension.script.clone() }];
    for step in &extension.further {
        let text = releases.before(step)?.text.clone() + &step.text;
        scripts.push(Script { name: step.name.clone(), text });
    }
    Ok(scripts)
}

fn check(program: &Path, script: &Path) -> Result<()> {
    let output = Command::new(program).arg(script).output().context("cannot run pgspot")?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() && printed.contains(CLEAN) {
        return Ok(());
    }
    bail!("{printed}{}", String::from_utf8_lossy(&output.stderr))
}

fn controls(program: &Path, folder: &Path) -> Result<()> {
    let file = folder.join("control.sql");
    for faulty in FAULTY {
        fs::write(&file, faulty)?;
        ensure!(check(program, &file).is_err(), "pgspot does not object to {faulty}");
    }
    Ok(())
}

/// pgspot in a virtual environment of its own.
fn provide(folder: &Path) -> Result<PathBuf> {
    let environment = folder.join("environment");
    let program = environment.join("bin/pgspot");
    let installed = environment.join("installed");
    let wanted = PACKAGES.join(" ");
    if program.is_file() && fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return Ok(program);
    }
    packages::provide_python_environments()?;
    fs::create_dir_all(folder)?;
    workspace::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES);
    workspace::run(&mut pip).context("cannot install pgspot")?;
    fs::write(installed, wanted)?;
    Ok(program)
}
