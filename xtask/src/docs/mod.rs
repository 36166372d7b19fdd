//! `cargo xtask docs`: the book of `docs/`, and what keeps its pages true.
//!
//! Pictures are SVG files: GitHub and the book show them as they are, where Mermaid would need a plugin in the book.

mod book;
mod errors;
mod links;
mod monitoring;
mod sql_reference;

use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::report::Report;
use crate::server::Server;
use crate::toolchain::Postgres;
use crate::workspace::Workspace;
use crate::{doc_sql, test};

/// The options of `cargo xtask docs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write docs/sql-reference.md, and the outputs that pages show, as they are now: read the diff before you commit it
    #[arg(long)]
    accept: bool,
}

/// Checks the pages, on a server too, and builds the book.
pub fn run(pg: &Postgres, args: &Args) -> Result<ExitCode> {
    let mut report = Report::default();
    check_sources(pg, &mut report);
    test::on_server(pg, &mut report, |server, report| check_on(server, args.accept, report))?;
    test_book(&mut report);
    Ok(report.close())
}

/// What needs no server: links, and the page of errors beside the sources.
pub fn check_sources(pg: &Postgres, report: &mut Report) {
    report.case("docs: links", || links::check(&Workspace::current()?.root));
    report.case("docs: errors", || errors::check(&Workspace::current()?.root, pg));
}

/// What a server tells: the pages' SQL, the catalog beside its reference, the monitoring's queries.
pub fn check_on(server: &Server, accept: bool, report: &mut Report) {
    if let Err(error) = doc_sql::run_documents(server, accept, report) {
        report.case("docs", || Err(error));
    }
    report.case("docs: SQL reference", || sql_reference::check(server, accept));
    report.case("docs: monitoring", || monitoring::check(server));
}

/// The book as a case: it needs mdbook, which is compiled where it is not there.
pub fn test_book(report: &mut Report) {
    report.case("docs: the book", || {
        println!("{}", book::build()?.display());
        Ok(())
    });
}

/// All files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(self::files(&path)?) } else { files.push(path) }
    }
    Ok(files)
}
