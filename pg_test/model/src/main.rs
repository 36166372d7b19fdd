//! Explores all protocols, prints the table and the interleavings, and compares the page that shows them.
//!
//! `refold-model [--write] [PAGE]`: with `--write` the page is brought up to date. Fails if any protocol comes out
//! otherwise than it must, or if the page is not up to date.

use anyhow::{Context, Result, ensure};
use refold_model::{cases, page, report};
use std::fs;

fn main() -> Result<()> {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    let write = arguments.first().is_some_and(|argument| argument == "--write");
    if write {
        arguments.remove(0);
    }
    let lines = report::lines(&cases::all())?;
    let table = report::table(&lines);
    println!("{table}");
    let titles = report::titles(&lines);
    for (title, line) in titles.iter().zip(&lines) {
        if let Some(interleaving) = &line.interleaving {
            println!("{title}: {}\n{interleaving}", line.verdict);
        }
    }
    for path in arguments {
        let old = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let new = page::filled(&old, |name| match name {
            "table" => Some(table.clone()),
            _ => lines[titles.iter().position(|title| title == name)?].interleaving.clone(),
        })?;
        if write {
            fs::write(&path, new)?;
        } else {
            ensure!(old == new, "{path} does not show what was found: cargo xtask model --write");
        }
    }
    let unexpected: Vec<_> = titles
        .iter()
        .zip(&lines)
        .filter(|(_, line)| !line.as_expected)
        .map(|(title, _)| title.as_str())
        .collect();
    ensure!(unexpected.is_empty(), "not as expected: {}", unexpected.join("; "));
    Ok(())
}
