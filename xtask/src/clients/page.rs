//! The page of the documentation that shows the clients: its programs are the tested files, its SQL is what they work with.

use anyhow::{Context, Result, bail, ensure};
use regex::{Captures, Regex};
use std::fs;

use super::language::Language;
use crate::doc_sql;
use crate::workspace::Workspace;

const PAGE: &str = "docs/clients.md";
/// The line that names a file, and the block that shows it.
const SHOWN: &str = r"(?ms)^<!-- client: (?<file>[^\n]+) -->\n```(?<fence>[a-z]+)\n.*?^```$";

/// The SQL that a client's database is made with.
pub fn sql() -> Result<String> {
    let sql = doc_sql::sql_of(&read(PAGE)?);
    ensure!(!sql.trim().is_empty(), "{PAGE} has no SQL");
    Ok(sql)
}

/// Fails if the page shows other programs than the files, or writes them there.
pub fn compare(accept: bool) -> Result<()> {
    let page = read(PAGE)?;
    let up_to_date = render(&page, read)?;
    for language in Language::ALL {
        let file = language.file();
        ensure!(page.contains(&format!("<!-- client: {file} -->\n")), "{PAGE} does not show {file}");
    }
    if page == up_to_date {
        return Ok(());
    }
    ensure!(accept, "{PAGE} shows other programs than the files (cargo xtask clients --accept writes them)");
    fs::write(Workspace::current()?.root.join(PAGE), up_to_date)?;
    println!("accepted: {PAGE}");
    Ok(())
}

/// The page with what is in the files now.
fn render(page: &str, read: impl Fn(&str) -> Result<String>) -> Result<String> {
    let shown = Regex::new(SHOWN)?;
    let mut rendered = String::new();
    let mut end = 0;
    for block in shown.captures_iter(page) {
        let (whole, file, fence) = parts(&block).context("a block without its parts")?;
        let program = read(file)?;
        if program.contains("```") || !program.ends_with('\n') {
            bail!("{file} cannot be shown in a block");
        }
        rendered += &page[end..whole.start()];
        rendered += &format!("<!-- client: {file} -->\n```{fence}\n{program}```");
        end = whole.end();
    }
    Ok(rendered + &page[end..])
}

fn parts<'a>(block: &Captures<'a>) -> Option<(regex::Match<'a>, &'a str, &'a str)> {
    Some((block.get(0)?, block.name("file")?.as_str(), block.name("fence")?.as_str()))
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(Workspace::current()?.root.join(file)).with_context(|| format!("cannot read {file}"))
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn shows_what_is_in_the_files() -> anyhow::Result<()> {
        let page = "a\n<!-- client: x.py -->\n```python\nold\n```\nb\n```sql\nSELECT 1;\n```\n<!-- client: y -->\n```c\n```\n";
        let rendered = render(page, |file| Ok(format!("{file} 1\n{file} 2\n")))?;
        let expected = "a\n<!-- client: x.py -->\n```python\nx.py 1\nx.py 2\n```\nb\n```sql\nSELECT 1;\n```\n\
                        <!-- client: y -->\n```c\ny 1\ny 2\n```\n";
        assert_eq!(rendered, expected);
        assert_eq!(render(&rendered, |file| Ok(format!("{file} 1\n{file} 2\n")))?, rendered);
        Ok(())
    }
}
