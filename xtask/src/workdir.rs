//! A private folder for one server, and the removal of those whose owner was killed before it could tidy up.

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// Not `$TMPDIR`: paths of sockets may have 107 bytes only, and the server's user must be able to get here.
const PARENT: &str = "/tmp";
const PREFIX: &str = "refold-";
/// Locked for as long as the process lives that made the folder.
const OWNER: &str = "owner.lock";
/// The folder of a cluster in a work folder.
pub const DATA: &str = "data";

#[derive(Debug)]
pub struct Workdir {
    path: PathBuf,
    _owner: File,
}

impl Workdir {
    pub fn create() -> Result<Self> {
        remove_abandoned();
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix(PREFIX).tempdir_in(PARENT).context("cannot make a folder in /tmp")?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        // Locked before it has its name, so that nobody finds it unlocked.
        let unnamed = folder.path().join("lock");
        let owner = File::create(&unnamed)?;
        owner.lock().context("cannot lock the work folder")?;
        fs::rename(&unnamed, folder.path().join(OWNER))?;
        Ok(Self { path: folder.keep(), _owner: owner })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && self.path.exists()
        {
            eprintln!("warning: cannot remove {}: {error}", self.path.display());
        }
    }

    /// Makes sure that no later run takes the folder for abandoned.
    pub fn keep(&self) {
        fs::remove_file(self.path.join(OWNER)).ok();
    }
}

fn remove_abandoned() {
    let entries = fs::read_dir(PARENT).into_iter().flatten().flatten();
    for folder in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let folder = folder.path();
        // Others' folders cannot be opened for writing, and a living owner holds the lock.
        if let Ok(owner) = File::options().write(true).open(folder.join(OWNER))
            && owner.try_lock().is_ok()
        {
            stop_server_in(&folder.join(DATA));
            fs::remove_dir_all(&folder).ok();
        }
    }
}

fn stop_server_in(data: &Path) {
    let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let Some(pid) = pid_file.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else { return };
    // The number may be another process by now: a postmaster's working folder is its cluster.
    let is_alive = || fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == data);
    if is_alive() && kill(Pid::from_raw(pid), Signal::SIGQUIT).is_ok() {
        for _ in 0..100 {
            if !is_alive() {
                break;
            }
            sleep(Duration::from_millis(100));
        }
    }
}
