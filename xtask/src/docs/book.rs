//! The pages as a book, built by mdBook into `target/book`.

use anyhow::{Context, Result, ensure};
use regex::Regex;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{self, Workspace};

/// Of crates.io.
const VERSION: &str = "0.5.4";

/// Builds it and returns its first page.
pub fn build() -> Result<PathBuf> {
    let workspace = Workspace::current()?;
    let program = provide(&workspace)?;
    let book = workspace.target.join("book");
    if book.exists() {
        fs::remove_dir_all(&book)?;
    }
    let mut mdbook = Command::new(program);
    let output = mdbook.arg("build").arg("--dest-dir").arg(&book).arg(workspace.root.join("docs")).output();
    let output = output.context("cannot run mdbook")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && !said.contains("WARN"), "{said}");
    require_whole(&book)?;
    Ok(book.join("index.html"))
}

/// mdbook at our version: the one on the path, else one of this checkout's.
fn provide(workspace: &Workspace) -> Result<PathBuf> {
    let tools = workspace.target.join("tools");
    let ours = tools.join("bin/mdbook");
    for program in [PathBuf::from("mdbook"), ours.clone()] {
        if version_of(&program).is_some_and(|version| version.ends_with(VERSION)) {
            return Ok(program);
        }
    }
    let mut cargo = workspace.cargo();
    cargo.args(["install", "--quiet", "--locked", "--force", "--root"]).arg(&tools);
    cargo.args(["--no-default-features", "--features", "search"]);
    // It is compiled once: what that leaves would only be in the way.
    cargo.arg(format!("mdbook@{VERSION}")).env_remove("CARGO_TARGET_DIR");
    workspace::run(&mut cargo).context("cannot install mdbook")?;
    Ok(ours)
}

fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Each link from a page of the book to another file of it leads there.
fn require_whole(book: &Path) -> Result<()> {
    let link = Regex::new(r##"(?:href|src)="([^"#?:]+)[^":]*""##)?;
    let mut broken = HashSet::new();
    let mut pages = 0;
    for page in super::files(book)? {
        if page.extension().is_none_or(|extension| extension != "html") {
            continue;
        }
        pages += 1;
        let text = fs::read_to_string(&page)?;
        for (_, [target]) in link.captures_iter(&text).map(|captures| captures.extract()) {
            // The page for what is not found is for a site's root.
            let folder = page.parent().unwrap_or(book);
            if !folder.join(target).exists() && !page.ends_with("404.html") {
                broken.insert(format!("{} has a link to {target}", page.display()));
            }
        }
    }
    ensure!(pages > 1, "there are no pages in {}", book.display());
    ensure!(broken.is_empty(), "{}", broken.into_iter().collect::<Vec<_>>().join("\n"));
    Ok(())
}
