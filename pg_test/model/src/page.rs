//! The blocks of a page that are printed by this program, so that what the page says is what was found.
//!
//! A block is a fenced `text` block after a line `<!-- model: NAME -->`; NAME is a protocol's, or `table`.

use anyhow::{Context, Result};

const OPENING: &str = "<!-- model: ";
const CLOSING: &str = " -->";
const FENCE: &str = "```";

/// The page with its blocks as they are to be.
pub fn filled(page: &str, block: impl Fn(&str) -> Option<String>) -> Result<String> {
    let mut filled = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        filled.push_str(line);
        filled.push('\n');
        let Some(name) = line.strip_prefix(OPENING).and_then(|rest| rest.strip_suffix(CLOSING)) else {
            continue;
        };
        let block = block(name).with_context(|| format!("there is no interleaving of \"{name}\""))?;
        lines
            .next()
            .filter(|line| line.starts_with(FENCE))
            .with_context(|| format!("no block after {line}"))?;
        lines.find(|line| *line == FENCE).with_context(|| format!("the block after {line} does not end"))?;
        filled.push_str(&format!("{FENCE}text\n{}\n{FENCE}\n", block.trim_end()));
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_what_is_marked() -> Result<()> {
        let page = "a\n<!-- model: x -->\n```text\nold\n```\nb\n```text\nkept\n```\n";
        let block = |name: &str| (name == "x").then(|| "new\n".to_owned());
        assert_eq!(filled(page, block)?, page.replace("old", "new"));
        assert!(filled(&page.replace(": x", ": y"), block).is_err());
        assert!(filled("<!-- model: x -->\ntext\n", block).is_err());
        Ok(())
    }
}
