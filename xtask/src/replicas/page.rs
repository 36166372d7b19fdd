//! What docs/replication.md says to type, on the one server and on the other, is typed.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::process::Stdio;

use super::Cases;
use super::pair::Pair;
use crate::server::Server;
use crate::workspace::Workspace;

pub const NAMES: &[&str] = &[PAGE];
const PAGE: &str = "docs/replication.md, on two servers";
const DATABASE: &str = "shop";
/// How the page names the publisher to the subscriber.
const CONNECTION: &str = "host=publisher dbname=shop";
const OPENING: &str = "```sql on the ";

pub fn run(pair: &Pair, cases: &mut Cases) -> Result<()> {
    cases.case(PAGE, || page(pair));
    Ok(())
}

fn page(pair: &Pair) -> Result<()> {
    let text = fs::read_to_string(Workspace::current()?.root.join("docs/replication.md"))?;
    let blocks = blocks(&text);
    ensure!(!blocks.is_empty(), "there is no block that begins with {OPENING}");
    for server in [pair.publisher, pair.subscriber] {
        server.create_database(DATABASE)?;
    }
    let publisher = pair.publisher;
    let connection = format!(
        "host={} port={} user={} dbname={DATABASE}",
        publisher.socket_dir().display(),
        publisher.port(),
        publisher.user()
    );
    for (place, sql) in blocks {
        let server = match place {
            "publisher" => publisher,
            "subscriber" => pair.subscriber,
            _ => bail!("nobody is called {place}"),
        };
        type_in(server, &sql.replace(CONNECTION, &connection)).with_context(|| sql.clone())?;
        pair.catch_up(DATABASE).with_context(|| sql.clone())?;
    }
    Ok(())
}

/// Who types, and what.
fn blocks(markdown: &str) -> Vec<(&str, String)> {
    let mut blocks: Vec<(&str, String)> = Vec::new();
    let mut inside = false;
    for line in markdown.lines() {
        if let Some(place) = line.strip_prefix(OPENING) {
            blocks.push((place.trim(), String::new()));
            inside = true;
        } else if line.trim_end() == "```" {
            inside = false;
        } else if inside && let Some((_, sql)) = blocks.last_mut() {
            sql.push_str(line);
            sql.push('\n');
        }
    }
    blocks
}

fn type_in(server: &Server, sql: &str) -> Result<()> {
    let script = server.results_dir().join("page.sql");
    fs::write(&script, sql)?;
    let mut psql = server.psql(DATABASE);
    psql.args(["--quiet", "--set", "ON_ERROR_STOP=1", "--file"]).arg(&script).stdin(Stdio::null());
    let output = psql.output().context("cannot run psql")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn tells_who_types_what() {
        let text = "```sql on the publisher\nA;\nB;\n```\ntext\n```sql\nC;\n```\n```sql on the subscriber\nD;\n```\n";
        let expected = [("publisher", "A;\nB;\n".to_owned()), ("subscriber", "D;\n".to_owned())];
        assert_eq!(blocks(text), expected);
    }
}
