//! PostgreSQL of versions that this system's package manager does not offer: the packages of a distribution that has
//! them, unpacked into a folder of their own. Nothing is installed on the system, and nothing runs in a container: the
//! programs are told to use their own distribution's loader and libraries.

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Uid;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages;
use crate::workspace::{Workspace, run};

/// Where a version comes from.
struct Origin {
    major: u32,
    suite: &'static str,
    /// Further lines of sources.list, beside the suite's own; `None`: the mirror that mmdebstrap takes for the suite.
    sources: &'static [&'static str],
    is_ubuntu: bool,
}

const ORIGINS: [Origin; 3] = [
    Origin {
        major: 16,
        suite: "noble",
        sources: &[
            "deb http://archive.ubuntu.com/ubuntu noble main universe",
            "deb http://archive.ubuntu.com/ubuntu noble-updates main universe",
        ],
        is_ubuntu: true,
    },
    Origin { major: 17, suite: "trixie", sources: &[], is_ubuntu: false },
    Origin { major: 18, suite: "forky", sources: &[], is_ubuntu: false },
];

/// Debian has no package of Ubuntu's keys that is current; this one is trusted by its checksum.
const UBUNTU_KEYS: &str =
    "http://archive.ubuntu.com/ubuntu/pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb";
const UBUNTU_KEYS_SHA256: &str = "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8";

/// What a server and a build do not need of the packages that theirs depend on.
const NEEDLESS: [&str; 4] = ["usr/lib/gcc", "usr/share/doc", "usr/share/man", "var"];

/// Where the tree of a version is, and of its `pg_config`.
struct Tree {
    root: PathBuf,
    major: u32,
}

/// Where the `pg_config` of this version is, once it is unpacked.
pub fn pg_config(major: u32) -> Result<PathBuf> {
    Ok(Tree::of(major)?.pg_config())
}

/// Unpacks this version and returns its `pg_config`.
pub fn provide(major: u32) -> Result<PathBuf> {
    let origin = ORIGINS.iter().find(|origin| origin.major == major);
    let origin = origin.with_context(|| format!("where to get PostgreSQL {major} is not known"))?;
    let tree = Tree::of(major)?;
    tree.unpack(origin).with_context(|| format!("cannot unpack PostgreSQL {major}"))?;
    Ok(tree.pg_config())
}

/// The prefix of the libraries that belong to a program in such a tree; `None`: it is the system's.
pub fn prefix_of(bindir: &Path) -> Option<PathBuf> {
    let usr = bindir.ancestors().find(|folder| folder.ends_with("usr"))?;
    (usr != Path::new("/usr")).then(|| usr.to_owned())
}

/// The server's user must get there: as root that is another one, and the checkout may be closed to it.
fn parent() -> Result<PathBuf> {
    if Uid::effective().is_root() {
        return Ok(PathBuf::from("/var/cache/refold"));
    }
    Ok(Workspace::current()?.target.join("postgresql"))
}

impl Tree {
    fn of(major: u32) -> Result<Self> {
        Ok(Self { root: parent()?.join(format!("postgresql-{major}")), major })
    }

    fn pg_config(&self) -> PathBuf {
        self.root.join(format!("usr/lib/postgresql/{}/bin/pg_config", self.major))
    }

    fn libraries(&self) -> Result<PathBuf> {
        let machine = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        let folder = self.root.join(machine);
        ensure!(folder.is_dir(), "there is no {}", folder.display());
        Ok(folder)
    }

    fn unpack(&self, origin: &Origin) -> Result<()> {
        packages::provide_programs(&[
            ("mmdebstrap", "mmdebstrap"),
            ("patchelf", "patchelf"),
            ("curl", "curl"),
            ("sha256sum", "coreutils"),
        ])?;
        let parent = self.root.parent().context("the folder has no parent")?;
        fs::create_dir_all(parent)?;
        fs::set_permissions(parent, fs::Permissions::from_mode(0o755))?;
        // Whole, or not there.
        let unfinished = tempfile::Builder::new().prefix("unpacking-").tempdir_in(parent)?;
        let beginning = Tree { root: unfinished.path().join("root"), major: self.major };
        eprintln!("unpacking PostgreSQL {} of {} into {}", self.major, origin.suite, self.root.display());
        run(&mut beginning.bootstrap(origin, unfinished.path())?)?;
        beginning.prune()?;
        beginning.bind_to(&self.root)?;
        if self.root.exists() {
            fs::remove_dir_all(&self.root)?;
        }
        Ok(fs::rename(&beginning.root, &self.root)?)
    }

    fn bootstrap(&self, origin: &Origin, scratch: &Path) -> Result<Command> {
        let mut command = Command::new("mmdebstrap");
        command.args(["--quiet", "--variant=extract", "--include", &packages::whole(self.major).join(",")]);
        if origin.is_ubuntu {
            command.arg("--keyring").arg(ubuntu_keys(scratch)?);
        }
        // A snapshot of a suite that is not released yet may be older than its own date of expiry.
        command.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
        command.arg(origin.suite).arg(&self.root).args(origin.sources);
        Ok(command)
    }

    fn prune(&self) -> Result<()> {
        let libraries = self.root.join("usr/lib");
        let compilers = fs::read_dir(&libraries)?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm-")));
        for folder in NEEDLESS.iter().map(|folder| self.root.join(folder)).chain(compilers) {
            if folder.is_dir() {
                fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
            }
        }
        Ok(())
    }

    /// Has every program use the loader and libraries that will be at `home`.
    fn bind_to(&self, home: &Path) -> Result<()> {
        let here = self.libraries()?;
        let libraries = home.join(here.strip_prefix(&self.root)?);
        let loader = fs::read_dir(&here)?
            .flatten()
            .map(|entry| entry.file_name())
            .find(|name| name.to_string_lossy().starts_with("ld-linux"))
            .context("there is no loader")?;
        let mut bound = 0;
        for program in self.programs(&self.root.join("usr/lib/postgresql"))? {
            let asked = Command::new("patchelf").arg("--print-interpreter").arg(&program).output()?;
            // A library or a script.
            if !asked.status.success() {
                continue;
            }
            let mut patchelf = Command::new("patchelf");
            patchelf.arg("--set-interpreter").arg(libraries.join(&loader));
            patchelf.args(["--force-rpath", "--set-rpath"]).arg(&libraries).arg(&program);
            run(&mut patchelf)?;
            bound += 1;
        }
        if bound == 0 {
            bail!("there are no programs");
        }
        Ok(())
    }

    fn programs(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.extend(self.programs(&entry.path())?);
            } else if entry.file_type()?.is_file() && entry.metadata()?.permissions().mode() & 0o100 != 0 {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

fn ubuntu_keys(scratch: &Path) -> Result<PathBuf> {
    let package = scratch.join("keys.deb");
    run(Command::new("curl")
        .args(["--fail", "--silent", "--show-error", "--output"])
        .arg(&package)
        .arg(UBUNTU_KEYS))?;
    let sum = Command::new("sha256sum").arg(&package).output()?;
    let sum = String::from_utf8_lossy(&sum.stdout).into_owned();
    ensure!(sum.starts_with(UBUNTU_KEYS_SHA256), "{UBUNTU_KEYS} is not what it was: {sum}");
    let folder = scratch.join("keys");
    run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&folder))?;
    Ok(folder.join("usr/share/keyrings/ubuntu-archive-keyring.gpg"))
}
