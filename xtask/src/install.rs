//! Builds the extension and puts its three files (library, control file, install script) where a server looks for them.

use anyhow::{Context, Result, anyhow, bail};
use cargo_metadata::{CrateType, Message};
use object::{Object, ObjectSection};
use pgrx_sql_entity_graph::section::{decode_entities, is_schema_section_name};
use pgrx_sql_entity_graph::{ControlFile, PgrxSql, SqlGraphEntity};
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{fs, iter};

use crate::toolchain::Postgres;
use crate::upgrade::{Releases, Script};
use crate::workspace::{self, EXTENSION, Workspace};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Dev,
    Release,
}

/// A built extension, ready to be installed anywhere.
#[derive(Debug)]
pub struct Extension {
    pub library: PathBuf,
    pub control: String,
    pub script: String,
    pub version: String,
    /// The steps from the released versions to this one; a test adds what it needs.
    pub further: Vec<Script>,
}

/// Compiles the extension for `pg` and generates its install script.
pub fn build(pg: &Postgres, profile: Profile) -> Result<Extension> {
    build_with(pg, profile, &[])
}

/// The same with further cargo features.
pub fn build_with(pg: &Postgres, profile: Profile, features: &[&str]) -> Result<Extension> {
    let workspace = Workspace::current()?;
    let library = compile(&workspace, pg, profile, features)?;
    let control_file = workspace.root.join(format!("{EXTENSION}.control"));
    let control = fs::read_to_string(&control_file)
        .with_context(|| format!("cannot read {}", control_file.display()))?
        .replace("@CARGO_VERSION@", &workspace.version);
    let script = install_script(&library, &control)
        .with_context(|| format!("cannot generate the install script from {}", library.display()))?;
    let further = Releases::read(&workspace)?.steps()?;
    Ok(Extension { library, control, script, version: workspace.version, further })
}

fn compile(workspace: &Workspace, pg: &Postgres, profile: Profile, features: &[&str]) -> Result<PathBuf> {
    let mut cargo = workspace.cargo_for(pg);
    cargo.args(["build", "--lib", "--message-format", "json-render-diagnostics"]);
    cargo.args(workspace::extension_arguments(pg));
    for feature in features {
        cargo.args(["--features", feature]);
    }
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let messages = child.stdout.take().context("cargo has no output")?;
    let mut library = None;
    for message in Message::parse_stream(BufReader::new(messages)) {
        if let Message::CompilerArtifact(artifact) = message?
            && artifact.target.name == EXTENSION
            && artifact.target.crate_types.contains(&CrateType::CDyLib)
        {
            library = artifact.filenames.into_iter().find(|file| file.extension() == Some("so"));
        }
    }
    if !child.wait()?.success() {
        bail!("the extension does not compile");
    }
    library.map(Into::into).context("cargo built no library")
}

/// The SQL of `CREATE EXTENSION`: pgrx 0.18 describes every SQL item in a section of the library, and orders them by
/// what they need.
fn install_script(library: &Path, control: &str) -> Result<String> {
    let bytes = fs::read(library)?;
    let file = object::File::parse(bytes.as_slice())?;
    let section = file
        .sections()
        .find(|section| section.name().is_ok_and(is_schema_section_name))
        .context("it has no section that describes its SQL: was it linked with --no-gc-sections?")?;
    let root = SqlGraphEntity::ExtensionRoot(ControlFile::from_str(control)?);
    let items = decode_entities(section.data()?).map_err(as_anyhow)?;
    let entities = iter::once(root).chain(items);
    let graph = PgrxSql::build(entities, EXTENSION.to_owned(), false).map_err(as_anyhow)?;
    graph.to_sql().map_err(as_anyhow)
}

/// pgrx reports with `eyre`, which is no standard error.
fn as_anyhow(report: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{report:#}")
}

impl Extension {
    /// What the install script is called.
    pub fn script_name(&self) -> String {
        format!("{EXTENSION}--{}.sql", self.version)
    }

    /// Writes library, control file and script below `pkglibdir` and `sharedir`.
    pub fn install_into(&self, pkglibdir: &Path, sharedir: &Path) -> Result<()> {
        let library = pkglibdir.join(format!("{EXTENSION}.so"));
        let folder = sharedir.join("extension");
        let control = folder.join(format!("{EXTENSION}.control"));
        let script = folder.join(self.script_name());
        replace(&library, 0o755, |path| fs::copy(&self.library, path).map(drop))?;
        replace(&control, 0o644, |path| fs::write(path, &self.control))?;
        replace(&script, 0o644, |path| fs::write(path, &self.script))?;
        self.further.iter().try_for_each(|script| {
            replace(&folder.join(&script.name), 0o644, |path| fs::write(path, &script.text))
        })
    }
}

/// Removes the file before it is written: a running server may have the old one mapped, so the new one needs an inode
/// of its own. The mode is set because the server's user is not ours, whatever our umask says.
fn replace(path: &Path, mode: u32, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
    let replace = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => write(path)?,
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    replace().with_context(|| format!("cannot write {}", path.display()))
}
