//! PostgreSQL's own programs that dump and restore.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{self, Server};
use crate::toolchain::Postgres;

pub struct Tools<'a> {
    pub pg: &'a Postgres,
    /// Where the dumps are.
    pub folder: PathBuf,
}

impl Tools<'_> {
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `pg_dump` of a database into a file or folder.
    pub fn dump(&self, from: &Server, database: &str, options: &[&str], to: &Path) -> Result<()> {
        let mut command = self.program("pg_dump", from, database);
        succeed(command.args(options).arg("--file").arg(to))
    }

    pub fn dump_all(&self, from: &Server, to: &Path) -> Result<()> {
        let mut command = Command::new(self.pg.program("pg_dumpall"));
        connect(&mut command, from);
        succeed(command.arg("--file").arg(to))
    }

    /// `pg_restore` into a database; the first error ends it.
    pub fn restore(&self, to: &Server, database: &str, options: &[&str], from: &Path) -> Result<()> {
        let mut command = self.program("pg_restore", to, database);
        succeed(command.arg("--exit-on-error").args(options).arg(from))
    }

    /// A script through psql; the first error ends it.
    pub fn run_script(&self, to: &Server, database: &str, script: &Path) -> Result<()> {
        let mut psql = to.psql(database);
        succeed(
            psql.args(["--quiet", "--set", "ON_ERROR_STOP=1", "--output", "/dev/null", "--file"]).arg(script),
        )
    }

    /// A script through psql as most run it: an error does not end it. Returns what was complained of.
    pub fn run_script_on(&self, to: &Server, database: &str, script: &Path) -> Result<String> {
        let mut psql = to.psql(database);
        psql.args(["--quiet", "--output", "/dev/null", "--file"]).arg(script);
        let output = psql.output().context("cannot run psql")?;
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn program(&self, name: &str, server: &Server, database: &str) -> Command {
        let mut command = Command::new(self.pg.program(name));
        connect(&mut command, server).args(["--dbname", database]);
        command
    }
}

fn connect<'a>(command: &'a mut Command, server: &Server) -> &'a mut Command {
    server::without_pg_environment(command).arg("--host").arg(server.socket_dir());
    command.args(["--port", &server.port().to_string(), "--username", server.user()])
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
