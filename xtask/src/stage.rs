//! A staged installation: PostgreSQL as it is installed, plus our build of the extension, in a folder of its own.
//!
//! PostgreSQL finds its library and share folders relative to its own executable. So real copies of the executables in
//! a tree of the same shape, with links to everything else, make an installation that we may add to: no root needed,
//! and neither the system's servers nor another checkout ever see the build under test.

use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::install::Extension;
use crate::toolchain::Postgres;
use crate::workspace::EXTENSION;

#[derive(Debug)]
pub struct Stage {
    bindir: PathBuf,
}

impl Stage {
    /// Makes the installation below `root`, which is empty.
    pub fn create(root: &Path, pg: &Postgres, extension: &Extension) -> Result<Self> {
        let bindir = below(root, &pg.bindir);
        let pkglibdir = below(root, &pg.pkglibdir);
        let sharedir = below(root, &pg.sharedir);
        fs::create_dir_all(&bindir)?;
        let stage = Self { bindir };
        stage.add_programs(pg, &["postgres", "initdb"])?;
        link_entries(&pg.pkglibdir, &pkglibdir, |_| true)?;
        link_entries(&pg.sharedir, &sharedir, |name| name != "extension")?;
        link_entries(&pg.sharedir.join("extension"), &sharedir.join("extension"), |name| !is_ours(name))?;
        extension.install_into(&pkglibdir, &sharedir)?;
        Ok(stage)
    }

    /// Copies, for a link would lead the executable home to where it was installed.
    pub fn add_programs(&self, pg: &Postgres, names: &[&str]) -> Result<()> {
        for name in names {
            let from = pg.program(name);
            fs::copy(&from, self.program(name)).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        Ok(())
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.bindir.join(name)
    }
}

/// The same path, seen from `root`.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn link_entries(from: &Path, to: &Path, wanted: impl Fn(&OsStr) -> bool) -> Result<()> {
    fs::create_dir_all(to)?;
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        if wanted(&entry.file_name()) {
            let link = to.join(entry.file_name());
            symlink(entry.path(), &link).with_context(|| format!("cannot make {}", link.display()))?;
        }
    }
    Ok(())
}

/// A file of an installed refold, which must not be mixed with the one under test.
fn is_ours(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.strip_prefix(EXTENSION).is_some_and(|rest| rest.starts_with("--") || rest.starts_with('.'))
}
