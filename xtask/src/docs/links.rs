//! Whether every link of the pages leads somewhere: on the pages as they are, and in the book that is made of them.

use anyhow::{Context, Result, ensure};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The book's table of contents.
const CONTENTS: &str = "docs/SUMMARY.md";

/// Fails if a link or picture leads nowhere, if one leads out of the book, or if the book lacks a page.
pub fn check(root: &Path) -> Result<()> {
    let mut pages = HashMap::new();
    let mut files = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    files.extend(
        super::files(&root.join("docs"))?.into_iter().filter(|file| file.extension() == Some("md".as_ref())),
    );
    for file in files {
        let name = file.strip_prefix(root)?.to_owned();
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        pages.insert(name, Page::parse(&text));
    }
    let faults = faults(&pages, |file| root.join(file).exists());
    ensure!(faults.is_empty(), "{}", faults.into_iter().collect::<Vec<_>>().join("\n"));
    Ok(())
}

#[derive(Debug, Default)]
struct Page {
    links: Vec<String>,
    anchors: Vec<String>,
}

impl Page {
    fn parse(markdown: &str) -> Self {
        let mut page = Self::default();
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor_of(&heading.take().unwrap_or_default());
                    let same = page.anchors.iter().filter(|known| **known == anchor).count();
                    page.anchors.push(if same == 0 { anchor } else { format!("{anchor}-{same}") });
                }
                _ => {}
            }
        }
        page
    }
}

/// The name that GitHub and mdBook give a heading.
fn anchor_of(heading: &str) -> String {
    let letters = heading.trim().to_lowercase().replace(' ', "-");
    letters.chars().filter(|&letter| letter.is_alphanumeric() || letter == '-' || letter == '_').collect()
}

fn faults(pages: &HashMap<PathBuf, Page>, exists: impl Fn(&Path) -> bool) -> BTreeSet<String> {
    let mut faults = BTreeSet::new();
    let mut listed = BTreeSet::new();
    for (name, page) in pages {
        let folder = name.parent().unwrap_or(Path::new(""));
        for link in page.links.iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { name.clone() } else { plain(&folder.join(path)) };
            if name == Path::new(CONTENTS) {
                listed.insert(target.clone());
            }
            if !exists(&target) {
                faults.insert(format!("{}: there is no {link}", name.display()));
            } else if folder.starts_with("docs") && !target.starts_with("docs") {
                faults.insert(format!("{}: {link} leads out of the book", name.display()));
            }
            let has = |page: &Page| page.anchors.iter().any(|known| known == anchor);
            if !anchor.is_empty() && !pages.get(&target).is_some_and(has) {
                faults.insert(format!("{}: {link} names no heading", name.display()));
            }
        }
    }
    for page in pages.keys().filter(|page| page.starts_with("docs") && **page != Path::new(CONTENTS)) {
        if !listed.contains(page) {
            faults.insert(format!("{CONTENTS} does not list {}", page.display()));
        }
    }
    faults
}

/// Without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => _ = plain.pop(),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{CONTENTS, Page, faults};
    use std::collections::HashMap;
    use std::path::{Path, PathBuf};

    fn of(link: &str) -> Vec<String> {
        let contents = Page::parse("[a](a.md)\n[b](b.md)\n");
        let a = Page::parse(&format!("# The `x_y` of a-b\n\n{link}\n"));
        let b = Page::parse("# B\n\n## B\n");
        let pages = HashMap::from([
            (PathBuf::from(CONTENTS), contents),
            (PathBuf::from("docs/a.md"), a),
            (PathBuf::from("docs/b.md"), b),
        ]);
        let exists = |path: &Path| pages.contains_key(path) || path == Path::new("README.md");
        faults(&pages, exists).into_iter().collect()
    }

    #[test]
    fn follows_links() {
        for link in [
            "[b](b.md)",
            "[b](./b.md#b-1)",
            "[here](#the-x_y-of-a-b)",
            "[web](https://a.b/c.md)",
            "![b](b.md)",
        ] {
            assert_eq!(of(link), Vec::<String>::new(), "{link}");
        }
        for (link, fault) in [
            ("[c](c.md)", "docs/a.md: there is no c.md"),
            ("| a |\n|---|\n| ![c](c.svg) |", "docs/a.md: there is no c.svg"),
            ("[b](b.md#c)", "docs/a.md: b.md#c names no heading"),
            ("[here](#b)", "docs/a.md: #b names no heading"),
            ("[top](../README.md)", "docs/a.md: ../README.md leads out of the book"),
        ] {
            assert_eq!(of(link), [fault]);
        }
    }

    #[test]
    fn misses_a_page() {
        let pages = HashMap::from([(PathBuf::from("docs/a.md"), Page::default())]);
        assert!(faults(&pages, |_| true).contains("docs/SUMMARY.md does not list docs/a.md"));
    }
}
