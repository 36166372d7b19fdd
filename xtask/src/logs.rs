//! What is kept of a failed run: `target/xtask-logs/<when>/`.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::workspace::Workspace;

/// Copies files and folders into a new folder and returns it.
pub fn preserve(sources: &[PathBuf]) -> Result<PathBuf> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let name = format!("{seconds}-{}", std::process::id());
    let folder = Workspace::current()?.target.join("xtask-logs").join(name);
    fs::create_dir_all(&folder)?;
    for source in sources {
        let to = folder.join(source.file_name().context("a log without a name")?);
        copy_tree(source, &to).with_context(|| format!("cannot keep {}", source.display()))?;
    }
    Ok(folder)
}

/// Copies a file, or a folder with all it holds; what links lead to is copied as what it is.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        fs::copy(from, to)?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy_tree(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
