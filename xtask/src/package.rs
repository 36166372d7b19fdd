//! `cargo xtask package`: a Debian package of the extension, built from an optimised library; and whether apt installs it
//! into a clean system where it works.

use anyhow::{Context, Result, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install::{self, Extension, Profile};
use crate::logs::copy_tree;
use crate::packages;
use crate::toolchain::Postgres;
use crate::workspace::{EXTENSION, Workspace, run};

/// What the package is tried with, by the clean system's own psql.
const TRIAL: &str = include_str!("package/trial.sql");
/// For readers, in the package's folder of documentation.
const DOCUMENTS: [(&str, &str); 3] =
    [("LICENSE", "copyright"), ("README.md", "README.md"), ("CHANGELOG.md", "changelog")];

/// The options of `cargo xtask package`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Then install it with apt into a clean Debian, and use it there
    #[arg(long = "try")]
    is_tried: bool,
}

pub fn run_task(pg: &Postgres, args: &Args) -> Result<()> {
    let package = build(pg)?;
    println!("{}", package.display());
    if args.is_tried {
        ensure!(!pg.is_beside, "a package for PostgreSQL {} is not tried: this system has none", pg.major);
        try_out(pg, &package)?;
        println!("installed by apt into a clean system, and used there");
    }
    Ok(())
}

/// Makes the package and tries it.
pub fn test(pg: &Postgres) -> Result<()> {
    run_task(pg, &Args { is_tried: true })
}

fn build(pg: &Postgres) -> Result<PathBuf> {
    packages::provide_programs(&[
        ("dpkg-deb", "dpkg"),
        ("dpkg-shlibdeps", "dpkg-dev"),
        ("strip", "binutils"),
    ])?;
    let workspace = Workspace::current()?;
    let extension = install::build(pg, Profile::Release)?;
    let folder = workspace.target.join("packages");
    fs::create_dir_all(&folder)?;
    // Its files get the modes that they have here.
    let scratch = tempfile::Builder::new().prefix("package-").tempdir_in(&folder)?;
    let root = scratch.path().join("root");
    let library = stage(pg, &extension, &workspace, &root)?;
    let control = root.join("DEBIAN");
    fs::create_dir(&control)?;
    let fields = fields(pg, &extension, &depends(scratch.path(), &library)?, kilobytes(&root)?)?;
    fs::write(control.join("control"), fields)?;
    fs::set_permissions(&root, Permissions::from_mode(0o755))?;
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--root-owner-group", "--build"]).arg(&root).arg(scratch.path().join("built.deb"));
    run(dpkg.stdout(std::process::Stdio::null()))?;
    let package = folder.join(format!("{}_{}-1_{}.deb", name(pg), extension.version, architecture()?));
    fs::rename(scratch.path().join("built.deb"), &package)?;
    Ok(package)
}

fn name(pg: &Postgres) -> String {
    format!("postgresql-{}-{EXTENSION}", pg.major)
}

/// Everything that the package has, below `root`; returns where the library is.
fn stage(pg: &Postgres, extension: &Extension, workspace: &Workspace, root: &Path) -> Result<PathBuf> {
    let libraries = root.join(format!("usr/lib/postgresql/{}/lib", pg.major));
    let shared = root.join(format!("usr/share/postgresql/{}", pg.major));
    let documents = root.join("usr/share/doc").join(name(pg));
    for folder in [&libraries, &shared.join("extension"), &documents] {
        fs::create_dir_all(folder)?;
    }
    extension.install_into(&libraries, &shared)?;
    for (from, to) in DOCUMENTS {
        fs::copy(workspace.root.join(from), documents.join(to))
            .with_context(|| format!("cannot copy {from}"))?;
    }
    let scripts = root.join("usr/share").join(name(pg)).join("migrate");
    copy_tree(&workspace.root.join("sql/migrate"), &scripts).context("cannot copy the scripts")?;
    let library = libraries.join(format!("{EXTENSION}.so"));
    run(Command::new("strip").args(["--strip-unneeded", "--remove-section=.comment"]).arg(&library))?;
    fs::set_permissions(&library, Permissions::from_mode(0o644))?;
    Ok(library)
}

/// The packages whose libraries it was linked with, in Debian's words.
fn depends(scratch: &Path, library: &Path) -> Result<String> {
    // dpkg-shlibdeps wants to be where a source package is.
    fs::create_dir(scratch.join("debian"))?;
    fs::write(scratch.join("debian/control"), format!("Source: {EXTENSION}\n"))?;
    let mut command = Command::new("dpkg-shlibdeps");
    let output =
        command.current_dir(scratch).args(["-O", "--ignore-missing-info", "-e"]).arg(library).output()?;
    ensure!(output.status.success(), "dpkg-shlibdeps: {}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout)?;
    let depends =
        printed.trim().strip_prefix("shlibs:Depends=").context("dpkg-shlibdeps names no package")?;
    Ok(depends.to_owned())
}

fn architecture() -> Result<String> {
    let output = Command::new("dpkg").arg("--print-architecture").output().context("cannot run dpkg")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What the files below a folder take.
fn kilobytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() {
            kilobytes(&entry.path())?
        } else {
            entry.metadata()?.len().div_ceil(1024)
        };
    }
    Ok(sum)
}

fn fields(pg: &Postgres, extension: &Extension, depends: &str, kilobytes: u64) -> Result<String> {
    Ok(format!(
        "Package: {name}\nVersion: {version}-1\nArchitecture: {architecture}\nSection: database\nPriority: optional\n\
         Maintainer: the refold authors <refold@localhost>\nInstalled-Size: {kilobytes}\n\
         Depends: postgresql-{major}, {depends}\n\
         Description: event log, inline projections and lossless rebuilds in PostgreSQL {major}\n \
         An event log, read models that the appending transaction keeps up to date, and rebuilds of a\n \
         read model while appends go on, from which no event is lost. CREATE EXTENSION {EXTENSION}.\n",
        name = name(pg),
        version = extension.version,
        architecture = architecture()?,
        major = pg.major,
    ))
}

/// In a system that has nothing but PostgreSQL, and is gone afterwards.
fn try_out(pg: &Postgres, package: &Path) -> Result<()> {
    packages::provide_programs(&[("mmdebstrap", "mmdebstrap")])?;
    let scratch = tempfile::Builder::new().prefix("refold-package-").tempdir()?;
    let (trial, copy) = (scratch.path().join("trial.sql"), scratch.path().join("refold.deb"));
    fs::write(&trial, TRIAL)?;
    fs::copy(package, &copy)?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=apt", "--format=null"]);
    command.arg(format!("--include=postgresql-{}", pg.major));
    command.arg(format!("--customize-hook=copy-in {} {} /", trial.display(), copy.display()));
    command.arg("--customize-hook=chmod 644 \"$1/trial.sql\"");
    command.arg("--customize-hook=chroot \"$1\" apt-get install -y --no-install-recommends /refold.deb");
    let psql = "psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --file /trial.sql";
    command.arg(format!(
        "--customize-hook=chroot \"$1\" runuser -u postgres -- pg_virtualenv -v {} {psql}",
        pg.major
    ));
    command.arg("--customize-hook=chroot \"$1\" apt-get remove -y postgresql-*-refold");
    command.args([suite()?.as_str(), "-"]);
    run(command.stdout(std::process::Stdio::null()))
}

/// The name of this system's release.
fn suite() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("this is no Debian")?;
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("this release has no name")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgxn_is_told_the_version_and_files_that_are_there() -> Result<()> {
        let workspace = Workspace::current()?;
        let meta = fs::read_to_string(workspace.root.join("META.json"))?;
        let meta: serde_json::Value = serde_json::from_str(&meta)?;
        assert_eq!(meta["version"], workspace.version.as_str());
        let provided = &meta["provides"][EXTENSION];
        assert_eq!(provided["version"], workspace.version.as_str());
        for file in ["file", "docfile"] {
            let path = provided[file].as_str().context("no file")?;
            assert!(workspace.root.join(path).is_file(), "{path}");
        }
        Ok(())
    }
}
