//! Runs the SQL of the documentation: what a reader copies must work.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};

use crate::report::Report;
use crate::server::Server;
use crate::workspace::Workspace;

const OPENING: &str = "```sql";
const CLOSING: &str = "```";

/// Each document is a case: its SQL blocks in order, in one session on a fresh database without the extension.
pub fn run_documents(server: &Server, report: &mut Report) -> Result<()> {
    let root = Workspace::current()?.root;
    for document in documents(&root)? {
        let name = document.strip_prefix(&root)?.display().to_string();
        let text = fs::read_to_string(&document).unwrap_or_default();
        let blocks = sql_of(&text);
        // Not every page has SQL, but the README does.
        if !blocks.trim().is_empty() {
            report.case(&format!("docs {name}"), || run_document(server, &name, &blocks));
        } else if name == "README.md" {
            report.case("docs README.md", || bail!("there is no SQL block in it"));
        }
    }
    Ok(())
}

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

fn run_document(server: &Server, name: &str, sql: &str) -> Result<()> {
    let database =
        format!("docs_{}", name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_").to_lowercase());
    let folder = server.results_dir().join("docs");
    fs::create_dir_all(&folder)?;
    let script = folder.join(name.replace('/', "_"));
    fs::write(&script, sql)?;
    server.create_database(&database)?;
    let mut psql = server.psql(&database);
    psql.args(["--quiet", "--set", "ON_ERROR_STOP=1", "--file"]).arg(&script);
    let output = psql.output().context("cannot run psql")?;
    // The line numbers of psql's messages are those of the document.
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// The SQL blocks of a Markdown text, each line at its number: other lines are empty.
pub fn sql_of(markdown: &str) -> String {
    let mut inside = false;
    let mut sql = String::new();
    for line in markdown.lines() {
        match line.trim_end() {
            OPENING => inside = true,
            CLOSING => inside = false,
            _ if inside => sql.push_str(line),
            _ => {}
        }
        sql.push('\n');
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::sql_of;

    #[test]
    fn keeps_sql_at_its_line() {
        let markdown = "# Title\n```sql\nSELECT 1;\n```\ntext\n```bash\nls\n```\n";
        assert_eq!(sql_of(markdown), "\n\nSELECT 1;\n\n\n\n\n\n");
    }
}
