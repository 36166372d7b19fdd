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
    let lines = cases::all().iter().map(report::line).collect::<Result<Vec<_>>>()?;
    let table = report::table(&lines);
    println!("{table}");
    for line in &lines {
        if let Some(interleaving) = &line.interleaving {
            println!("{}, shortest interleaving:\n{interleaving}", line.name.trim());
        }
    }
    for path in arguments {
        let old = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let new = page::filled(&old, |name| match name {
            "table" => Some(table.clone()),
            _ => lines.iter().find(|line| line.name.trim() == name)?.interleaving.clone(),
        })?;
        if write {
            fs::write(&path, new)?;
        } else {
            ensure!(old == new, "{path} does not show what was found: cargo xtask model --write");
        }
    }
    let unexpected: Vec<_> =
        lines.iter().filter(|line| !line.as_expected).map(|line| line.name.trim()).collect();
    ensure!(unexpected.is_empty(), "not as expected: {}", unexpected.join(", "));
    Ok(())
}
