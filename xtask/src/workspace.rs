//! Where this checkout is, where cargo puts what it builds, and how cargo is called.

use anyhow::{Context, Result, bail};
use cargo_metadata::MetadataCommand;
use std::path::PathBuf;
use std::process::Command;

use crate::toolchain::Postgres;

/// The package whose library is the extension; also the extension's name.
pub const EXTENSION: &str = "refold";

#[derive(Debug)]
pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
    /// The version of the extension.
    pub version: String,
}

impl Workspace {
    pub fn current() -> Result<Self> {
        let metadata = MetadataCommand::new().no_deps().exec().context("cargo metadata failed")?;
        let packages = &metadata.packages;
        let extension = packages.iter().find(|package| package.name.as_str() == EXTENSION);
        Ok(Self {
            version: extension.context("the workspace has no package `refold`")?.version.to_string(),
            root: metadata.workspace_root.into(),
            target: metadata.target_directory.into(),
        })
    }

    /// The scripts, specs and expected results that `pg_regress` runs.
    pub fn pg_test(&self) -> PathBuf {
        self.root.join("pg_test")
    }

    /// `cargo` at the top of the workspace, for what needs no PostgreSQL.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        cargo
    }

    /// `cargo` at the top of the workspace, with the environment that every build of the extension must share: pgrx
    /// takes another `PGRX_PG_CONFIG_PATH` for another PostgreSQL and generates its bindings anew.
    pub fn cargo_for(&self, pg: &Postgres) -> Command {
        let mut cargo = self.cargo();
        if pg.is_beside {
            cargo.env("CARGO_TARGET_DIR", self.target.join(pg.feature()));
        }
        cargo.env("PGRX_PG_CONFIG_PATH", &pg.pg_config);
        cargo
    }
}

/// The arguments that select the extension, built for `pg`.
pub fn extension_arguments(pg: &Postgres) -> [String; 5] {
    ["--package".into(), EXTENSION.into(), "--no-default-features".into(), "--features".into(), pg.feature()]
}

/// Runs `command` with the terminal's streams and fails if it does.
pub fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} failed: {status}");
    }
    Ok(())
}
