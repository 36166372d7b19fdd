//! Runs the SQL of the documentation: what a reader copies must work, and print what the page says.
//!
//! The blocks of a page run in order, in one session on a fresh database without the extension. Where a block of the
//! language `output` follows one of SQL, psql must print just that; only such a block may fail, if it shows the error.

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::report::Report;
use crate::server::Server;
use crate::workspace::Workspace;

const SQL: &str = "```sql";
const OUTPUT: &str = "```output";
const CLOSING: &str = "```";
/// What psql prints before and after a block whose output matters.
const MARK: &str = "@@ block";

/// Each document is a case.
pub fn run_documents(server: &Server, accept: bool, report: &mut Report) -> Result<()> {
    let root = Workspace::current()?.root;
    for document in documents(&root)? {
        let name = document.strip_prefix(&root)?.display().to_string();
        let page = Page::parse(&fs::read_to_string(&document).unwrap_or_default());
        // Not every page has SQL, but the README does.
        if !page.blocks.is_empty() {
            report.case(&format!("docs {name}"), || page.run(server, &name, &document, accept));
        } else if name == "README.md" {
            report.case("docs README.md", || bail!("there is no SQL block in it"));
        }
    }
    Ok(())
}

/// README.md, and the pages of the book.
fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let docs = root.join("docs");
    let mut pages = Vec::new();
    if docs.is_dir() {
        for entry in fs::read_dir(&docs)? {
            pages.push(entry?.path());
        }
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages.insert(0, root.join("README.md"));
    Ok(pages)
}

/// The SQL blocks of a Markdown text, each line at its number: other lines are empty.
pub fn sql_of(markdown: &str) -> String {
    Page::parse(markdown).sql().join("\n")
}

/// A document as lines, and where its SQL is.
#[derive(Debug)]
struct Page {
    lines: Vec<String>,
    blocks: Vec<Block>,
}

/// The lines between two fences: of SQL, and of what psql prints for it.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    sql: Range<usize>,
    output: Option<Range<usize>>,
}

impl Page {
    fn parse(markdown: &str) -> Self {
        let lines: Vec<String> = markdown.lines().map(str::to_owned).collect();
        let mut blocks: Vec<Block> = Vec::new();
        let mut at = 0;
        // Only an output that comes next belongs to the SQL before it.
        let mut adjoins = false;
        while let Some(line) = lines.get(at) {
            let fence = line.trim_end();
            at += 1;
            if !fence.starts_with(CLOSING) {
                adjoins &= fence.is_empty();
                continue;
            }
            let length = lines[at..].iter().take_while(|line| line.trim_end() != CLOSING).count();
            let inside = at..at + length;
            at = inside.end + 1;
            match (fence, blocks.last_mut()) {
                (SQL, _) => blocks.push(Block { sql: inside, output: None }),
                (OUTPUT, Some(block)) if adjoins => block.output = Some(inside),
                _ => {}
            }
            adjoins = fence == SQL;
        }
        Self { lines, blocks }
    }

    /// The SQL, each line at its number: other lines are empty.
    fn sql(&self) -> Vec<String> {
        let mut sql = vec![String::new(); self.lines.len() + 1];
        for block in &self.blocks {
            sql[block.sql.clone()].clone_from_slice(&self.lines[block.sql.clone()]);
        }
        sql
    }

    /// The same for psql, whose messages then name the lines of the document; the fences of a block that shows its output
    /// mark that.
    fn script(&self, accept: bool) -> String {
        let mut script = self.sql();
        for (number, block) in self.blocks.iter().enumerate() {
            if block.output.is_some() {
                let stop =
                    i32::from(!accept && !self.shown(block).lines().any(|line| line.starts_with("ERROR:")));
                script[block.sql.start - 1] = format!(r"\set ON_ERROR_STOP {stop} \echo '{MARK}' {number}");
                script[block.sql.end] = format!(r"\set ON_ERROR_STOP 1 \echo '{MARK}' end");
            }
        }
        script.join("\n") + "\n"
    }

    /// What the page says that a block prints.
    fn shown(&self, block: &Block) -> String {
        tidy(&block.output.clone().map(|lines| self.lines[lines].join("\n")).unwrap_or_default())
    }

    fn run(&self, server: &Server, name: &str, document: &Path, accept: bool) -> Result<()> {
        let database = format!(
            "docs_{}",
            name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_").to_lowercase()
        );
        let folder = server.results_dir().join("docs");
        fs::create_dir_all(&folder)?;
        let script = folder.join(name.replace('/', "_"));
        fs::write(&script, self.script(accept))?;
        server.create_database(&database)?;
        // One file for both streams: psql keeps their order.
        let printed = script.with_extension("out");
        let output = File::create(&printed)?;
        let mut psql = server.psql(&database);
        psql.args(["--quiet", "--set", "ON_ERROR_STOP=1", "--file"]).arg(&script);
        let status = psql.stdout(output.try_clone()?).stderr(output).status().context("cannot run psql")?;
        let printed = fs::read_to_string(&printed)?;
        ensure!(status.success(), "{}", last_lines(&printed));
        self.compare(&without_places(&printed)?, document, accept)
    }

    /// Fails if a block prints something else than the page says, or writes that there.
    fn compare(&self, printed: &str, document: &Path, accept: bool) -> Result<()> {
        let mut lines = self.lines.clone();
        let mut differences = Vec::new();
        for (number, block) in self.blocks.iter().enumerate().rev() {
            let Some(shown) = block.output.clone() else { continue };
            let mark = format!("{MARK} {number}\n");
            let (_, rest) =
                printed.split_once(&mark).with_context(|| format!("psql has not printed {mark}"))?;
            let found = tidy(rest.split(MARK).next().unwrap_or_default());
            if found != self.shown(block) {
                let line = shown.start;
                differences
                    .push(format!("line {line} shows\n{}\nbut psql prints\n{found}", self.shown(block)));
                lines.splice(shown, found.lines().map(str::to_owned));
            }
        }
        if accept && !differences.is_empty() {
            fs::write(document, lines.join("\n") + "\n")?;
            println!("accepted: {}", document.display());
            return Ok(());
        }
        differences.reverse();
        ensure!(differences.is_empty(), "(cargo xtask docs --accept writes it)\n{}", differences.join("\n"));
        Ok(())
    }
}

/// Without the blanks that psql ends lines with, and the empty lines around.
fn tidy(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// Without what psql says before a message: where in which file.
fn without_places(printed: &str) -> Result<String> {
    Ok(Regex::new(r"(?m)^psql:.*?:\d+: (ERROR|WARNING|NOTICE|INFO)")?.replace_all(printed, "$1").into_owned())
}

fn last_lines(printed: &str) -> String {
    let lines: Vec<_> = printed.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Block, Page, sql_of, tidy, without_places};
    use anyhow::Result;
    use std::path::Path;

    const PAGE: &str =
        "# Title\n```sql\nSELECT 1;\n```\n\n```output\n 1\n```\ntext\n```bash\nls\n```\n```output\nx\n```\n";

    #[test]
    fn keeps_sql_at_its_line_and_finds_its_output() {
        let page = Page::parse("# Title\n```sql\nSELECT 1;\n```\ntext\n```output\nx\n```\n");
        assert_eq!(page.blocks, [Block { sql: 2..3, output: None }]);
        assert_eq!(page.script(false), "\n\nSELECT 1;\n\n\n\n\n\n\n");
        assert_eq!(sql_of(PAGE).trim(), "SELECT 1;");
        let page = Page::parse(PAGE);
        assert_eq!(page.blocks, [Block { sql: 2..3, output: Some(6..7) }]);
        assert_eq!(page.script(false).lines().nth(2), Some("SELECT 1;"));
        assert!(page.script(false).contains("ON_ERROR_STOP 1 \\echo '@@ block' 0\n"));
        assert!(page.script(true).contains("ON_ERROR_STOP 0 \\echo '@@ block' 0\n"));
    }

    #[test]
    fn tells_what_is_shown_otherwise() {
        let compare = |printed| Page::parse(PAGE).compare(printed, Path::new("unused"), false);
        assert!(compare("noise\n@@ block 0\n 1  \n\n@@ block end\nnoise\n").is_ok());
        assert!(compare("noise\n@@ block 0\n 2\n@@ block end\n").is_err());
        assert!(compare("@@ block 0\n@@ block end\n 1\n").is_err());
        assert!(compare("1\n").is_err());
    }

    #[test]
    fn strips_what_is_psqls() -> Result<()> {
        assert_eq!(
            without_places("psql:/tmp/x.md:12: ERROR:  no\nDETAIL:  so\n")?,
            "ERROR:  no\nDETAIL:  so\n"
        );
        assert_eq!(tidy("\n a \n(1 row)\n\n"), " a\n(1 row)");
        Ok(())
    }
}
