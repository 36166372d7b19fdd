//! A small repository with what histories have: renames, binary files, a branch that does not know of a rename, a file
//! made again, odd names.

use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// Makes it in a folder of its own.
pub fn sample_repository() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    let write = |name: &str, content: &[u8]| fs::write(path.join(name), content);
    git(path, &["init", "--initial-branch=main"])?;
    write("story", b"once\nupon\na\ntime\nthere\nwas\n")?;
    write("picture", b"\0\x01\x02")?;
    commit(path, "Ada", "begin")?;
    git(path, &["switch", "--create", "side"])?;
    write("story", b"once\nupon\na\ntime\nthere\nwas\nnone\n")?;
    commit(path, "Bob", "go on, on a branch")?;
    git(path, &["switch", "main"])?;
    git(path, &["mv", "story", "tale"])?;
    commit(path, "Ada", "rename")?;
    git(path, &["merge", "--message", "merge", "side"])?;
    write("story", b"another\n")?;
    write("na\u{ef}ve \"name\"\twith\ttabs", b"x\n")?;
    fs::write(path.join(OsStr::from_bytes(b"not utf-8 \xff")), "y\n")?;
    commit(path, "Bob \u{2603}", "a new file at an old path")?;
    git(path, &["rm", "picture"])?;
    write("tale", b"once\nupon\na\ntime\n")?;
    commit(path, "Ada", "delete")?;
    write("picture", b"\0\x03")?;
    commit(path, "Ada", "draw again")?;
    git(path, &["commit", "--allow-empty", "--message", "nothing"])?;
    Ok(folder)
}

/// `git init` and no more.
pub fn empty_repository() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    git(folder.path(), &["init"])?;
    Ok(folder)
}

fn commit(repository: &Path, author: &str, message: &str) -> Result<()> {
    git(repository, &["add", "--all"])?;
    let author = format!("--author={author} <{}@example.org>", author.to_lowercase());
    git(repository, &["commit", &author, "--message", message])
}

/// Deaf to the user's settings: no signing, no hooks, no template.
fn git(repository: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("git");
    command.current_dir(repository).args(arguments).stdin(Stdio::null());
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    for role in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{role}_NAME"), "Sample")
            .env(format!("GIT_{role}_EMAIL"), "sample@example.org");
    }
    let output = command.output().context("cannot run git")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "git {arguments:?} failed: {complaint}");
    Ok(())
}
