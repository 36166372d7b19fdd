//! The PostgreSQL installation we build for and test with, as its `pg_config` describes it.

use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The versions refold has a cargo feature for; the first is the one a plain `cargo build` takes.
pub const SUPPORTED: [u32; 4] = [15, 16, 17, 18];

#[derive(Debug, Clone)]
pub struct Postgres {
    /// Absolute and never resolved: pgrx generates its bindings anew whenever this path changes.
    pub pg_config: PathBuf,
    pub major: u32,
    /// Whether a plain call takes another: what is built for this one has a target folder of its own then, for pgrx makes
    /// its bindings anew whenever the folder has another version's.
    pub is_beside: bool,
    /// As `pg_config --version` says it, e.g. `PostgreSQL 15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    pub bindir: PathBuf,
    pub pkglibdir: PathBuf,
    pub sharedir: PathBuf,
    pub includedir_server: PathBuf,
    /// Where `regress/` and `isolation/` with their runners are.
    pub test_tools: PathBuf,
}

impl Postgres {
    /// Finds the PostgreSQL to work with: the one `requested`, else `$PGRX_PG_CONFIG_PATH`, else `pg_config` on the
    /// PATH, else Debian's versioned folders. `None`: there is none yet.
    pub fn find(requested: Option<&Path>) -> Result<Option<Self>> {
        if let Some(path) = requested {
            return Self::from_pg_config(path).map(Some);
        }
        match default_candidates().into_iter().find(|path| path.is_file()) {
            Some(path) => Self::from_pg_config(&path).map(Some),
            None => Ok(None),
        }
    }

    /// Where Debian has this version's programs.
    pub fn of_debian(major: u32) -> PathBuf {
        format!("/usr/lib/postgresql/{major}/bin/pg_config").into()
    }

    fn from_pg_config(path: &Path) -> Result<Self> {
        let pg_config = std::path::absolute(path)?;
        let output = Command::new(&pg_config)
            .output()
            .with_context(|| format!("cannot run {}", pg_config.display()))?;
        if !output.status.success() {
            bail!("{} failed: {}", pg_config.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        let output = String::from_utf8_lossy(&output.stdout);
        let values: HashMap<&str, &str> = output.lines().filter_map(|line| line.split_once(" = ")).collect();
        let value = |name: &str| {
            let found = values.get(name).map(|value| value.trim());
            found.with_context(|| format!("{} does not tell {name}", pg_config.display()))
        };
        let version = value("VERSION")?.to_owned();
        let major = major_of(&version).with_context(|| format!("cannot read the version {version:?}"))?;
        if !SUPPORTED.contains(&major) {
            bail!("refold supports PostgreSQL {SUPPORTED:?}, but {} is {version}", pg_config.display());
        }
        // PGXS is <test tools>/../makefiles/pgxs.mk
        let pgxs = PathBuf::from(value("PGXS")?);
        let pgxs_source = pgxs.ancestors().nth(2).context("the path of PGXS is too short")?;
        Ok(Self {
            major,
            is_beside: false,
            bindir: value("BINDIR")?.into(),
            pkglibdir: value("PKGLIBDIR")?.into(),
            sharedir: value("SHAREDIR")?.into(),
            includedir_server: value("INCLUDEDIR-SERVER")?.into(),
            test_tools: pgxs_source.join("test"),
            version,
            pg_config,
        })
    }

    /// The cargo feature that builds refold for this version.
    pub fn feature(&self) -> String {
        format!("pg{}", self.major)
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.bindir.join(name)
    }

    pub fn pg_regress(&self) -> PathBuf {
        self.test_tools.join("regress/pg_regress")
    }

    pub fn pg_isolation_regress(&self) -> PathBuf {
        self.test_tools.join("isolation/pg_isolation_regress")
    }
}

fn default_candidates() -> Vec<PathBuf> {
    let from_environment = std::env::var_os("PGRX_PG_CONFIG_PATH").map(PathBuf::from);
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&search_path).map(|folder| folder.join("pg_config"));
    let of_debian = SUPPORTED.iter().map(|&major| Postgres::of_debian(major));
    from_environment.into_iter().chain(on_path).chain(of_debian).collect()
}

/// `PostgreSQL 15.18 (Debian ...)` is 15, `PostgreSQL 18beta1` is 18.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(1)?;
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major_of;

    #[test]
    fn reads_the_major_version() {
        assert_eq!(major_of("PostgreSQL 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major_of("PostgreSQL 18beta1"), Some(18));
        assert_eq!(major_of("PostgreSQL"), None);
    }
}
