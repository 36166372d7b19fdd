//! Whether everything that building and testing needs is installed, and on Debian its installation.

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::toolchain::{Postgres, SUPPORTED};
use crate::unpacked;
use crate::workspace::run;

/// Something needed, and the Debian package that has it.
struct Need {
    what: &'static str,
    present: bool,
    package: String,
}

/// Finds PostgreSQL with all we need, and installs what is missing where we may (as root, on Debian).
pub fn provide(requested: Option<&Path>) -> Result<Postgres> {
    let found = Postgres::find(requested)?;
    if let Some(pg) = found.as_ref().filter(|pg| missing(pg).is_empty()) {
        return Ok(pg.clone());
    }
    update()?;
    install(&packages_for(found.as_ref())?)?;
    let pg = Postgres::find(requested)?.context("there is no PostgreSQL even after installing it")?;
    match missing(&pg).first() {
        Some(need) => bail!("{} has no {}, even after installing {}", pg.version, need.what, need.package),
        None => Ok(pg),
    }
}

/// The same for a certain version: the one that a plain call takes, else the system's, else one unpacked beside it.
pub fn provide_version(major: u32) -> Result<Postgres> {
    if let Some(usual) = Postgres::find(None)?
        && usual.major == major
    {
        return provide(None);
    }
    let pg_config = match [Postgres::of_debian(major), unpacked::pg_config(major)?]
        .into_iter()
        .find(|path| path.is_file())
    {
        Some(path) => path,
        None => get(major)?,
    };
    Ok(Postgres { is_beside: true, ..provide(Some(&pg_config))? })
}

/// From the package manager if that offers it, else unpacked; returns its `pg_config`.
fn get(major: u32) -> Result<PathBuf> {
    update()?;
    if versions_of(&format!("postgresql-{major}")).is_empty() {
        return unpacked::provide(major);
    }
    install(&whole(major))?;
    Ok(Postgres::of_debian(major))
}

/// The packages that make up a PostgreSQL with all we need.
pub fn whole(major: u32) -> [String; 3] {
    ["", "-server-dev", "-plpython3"].map(|part| format!("postgresql{part}-{major}"))
}

/// Makes sure that programs (or files, by their paths) are there that only some tasks need: each with the package that
/// has it.
pub fn provide_programs(programs: &[(&str, &str)]) -> Result<()> {
    let lacking = || programs.iter().filter(|(program, _)| !is_on_path(program));
    let mut packages: Vec<_> = lacking().map(|(_, package)| (*package).to_owned()).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    update()?;
    install(&packages)?;
    match lacking().next() {
        Some((program, package)) => bail!("there is no {program}, even after installing {package}"),
        None => Ok(()),
    }
}

/// Makes sure that the files of packages are in a folder below `parent`, and returns that. Nothing is installed, so nobody has
/// to be root, and what these packages depend on, or do not go with, does not matter.
pub fn provide_unpacked(packages: &[&str], parent: &Path) -> Result<PathBuf> {
    let folder = parent.join(packages.join("+"));
    if folder.is_dir() {
        return Ok(folder);
    }
    update()?;
    fs::create_dir_all(parent)?;
    // Whole, or not there.
    let unfinished = tempfile::Builder::new().prefix("unpacking-").tempdir_in(parent)?;
    let mut download = apt_get(["download"]);
    // Its own user could not write there.
    download.args(["-o", "APT::Sandbox::User=root"]).args(packages).current_dir(unfinished.path());
    run_aloud(&mut download)?;
    let root = unfinished.path().join("root");
    for package in entries(unfinished.path()).into_iter().filter(|file| file.is_file()) {
        run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&root))?;
    }
    fs::rename(root, &folder)?;
    Ok(folder)
}

/// Makes sure that Python can make virtual environments, which Debian has in a package of its own.
pub fn provide_python_environments() -> Result<()> {
    provide_programs(&[("python3", "python3")])?;
    let able = || {
        let output = Command::new("python3").args(["-c", "import ensurepip, venv"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if able() {
        return Ok(());
    }
    install(&["python3-venv".to_owned()])?;
    if able() { Ok(()) } else { bail!("python3 has no venv, even after installing python3-venv") }
}

fn is_on_path(program: &str) -> bool {
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&search_path).any(|folder| folder.join(program).is_file())
}

/// The packages that complete `found`, or make up a PostgreSQL where there is none.
fn packages_for(found: Option<&Postgres>) -> Result<Vec<String>> {
    let Some(pg) = found else {
        eprintln!("there is no PostgreSQL here");
        return Ok(whole(offered_major()?).to_vec());
    };
    let mut packages = Vec::new();
    for need in missing(pg) {
        eprintln!("{} lacks {}", pg.version, need.what);
        if !packages.contains(&need.package) {
            packages.push(need.package);
        }
    }
    Ok(packages)
}

fn missing(pg: &Postgres) -> Vec<Need> {
    needs(pg).into_iter().filter(|need| !need.present).collect()
}

fn needs(pg: &Postgres) -> Vec<Need> {
    let has_programs = |names: &[&str]| names.iter().all(|name| pg.program(name).is_file());
    let package = |part: &str| format!("postgresql{part}-{}", pg.major);
    vec![
        Need { what: "the server", present: has_programs(&["initdb", "postgres"]), package: package("") },
        Need {
            what: "the clients and test tools",
            present: has_programs(&["psql", "pg_dump"])
                && pg.pg_regress().is_file()
                && pg.pg_isolation_regress().is_file(),
            package: package("-client"),
        },
        Need {
            what: "the server's headers",
            present: pg.includedir_server.join("postgres.h").is_file(),
            package: package("-server-dev"),
        },
        Need {
            what: "PL/Python",
            present: pg.sharedir.join("extension/plpython3u.control").is_file(),
            package: package("-plpython3"),
        },
        Need { what: "libclang", present: has_libclang(), package: "libclang-dev".to_owned() },
    ]
}

/// Whether bindgen will find libclang: in the folders where its own search looks.
fn has_libclang() -> bool {
    let named = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    let llvm = entries(Path::new("/usr/lib")).into_iter().filter(|path| starts_with(path, "llvm-"));
    let fixed = [
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
    ];
    let folders = named.into_iter().chain(llvm.map(|path| path.join("lib"))).chain(fixed.map(PathBuf::from));
    folders
        .flat_map(|folder| entries(&folder))
        .any(|file| starts_with(&file, "libclang.so") || starts_with(&file, "libclang-"))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn starts_with(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

/// The first supported version that the package manager offers.
fn offered_major() -> Result<u32> {
    let offered = |major: &&u32| !versions_of(&format!("postgresql-{major}")).is_empty();
    let major = SUPPORTED.iter().find(offered);
    major
        .copied()
        .with_context(|| format!("install PostgreSQL, one of {SUPPORTED:?}: apt offers none of them"))
}

fn install(packages: &[String]) -> Result<()> {
    let options = ["install", "-y", "--no-install-recommends"];
    if !may_install() {
        bail!("run this as root, then try again:\n  apt-get {} {}", options.join(" "), packages.join(" "));
    }
    let pinned: Vec<String> = packages.iter().map(|package| pinned(package)).collect();
    run_aloud(apt_get(options).args(pinned))
}

/// What the package manager knows to offer is what there is now, where we may ask it to look.
fn update() -> Result<()> {
    if may_install() { run_aloud(&mut apt_get(["update"])) } else { Ok(()) }
}

fn may_install() -> bool {
    Uid::effective().is_root() && Path::new("/usr/bin/apt-get").exists()
}

fn apt_get<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn run_aloud(command: &mut Command) -> Result<()> {
    let words = [command.get_program()].into_iter().chain(command.get_args()).map(OsStr::to_string_lossy);
    eprintln!("+ {}", words.collect::<Vec<_>>().join(" "));
    run(command)
}

/// `package` at the version of the installed server, where that is still offered: a newer one would upgrade the server
/// too, under a running cluster's feet.
fn pinned(package: &str) -> String {
    let Some((_, major)) = package.strip_prefix("postgresql").and_then(|rest| rest.rsplit_once('-')) else {
        return package.to_owned();
    };
    let installed = output_of("dpkg-query", &["-W", "-f", "${Version}", &format!("postgresql-{major}")]);
    match installed.trim() {
        version if !version.is_empty() && versions_of(package).iter().any(|offered| offered == version) => {
            format!("{package}={version}")
        }
        _ => package.to_owned(),
    }
}

/// The versions of `package` that the package manager offers.
fn versions_of(package: &str) -> Vec<String> {
    let lines = output_of("apt-cache", &["madison", package]);
    lines.lines().filter_map(|line| line.split('|').nth(1)).map(|version| version.trim().to_owned()).collect()
}

/// What a question to the package manager prints; nothing if there is none.
fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
