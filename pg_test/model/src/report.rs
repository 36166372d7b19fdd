//! The table of all protocols and their interleavings, and whether each came out as it must.

use crate::cases::{Case, Expected};
use crate::explore::{Verdict, explore};
use anyhow::Result;
use std::fmt::Write;

/// What came of one protocol.
#[derive(Debug)]
pub struct Line {
    pub name: &'static str,
    pub states: usize,
    pub verdict: &'static str,
    pub as_expected: bool,
    /// The shortest way to the fault, where there is one.
    pub interleaving: Option<String>,
}

/// Explores the instances of a protocol, until one fails.
pub fn line(case: &Case) -> Result<Line> {
    let mut line = Line {
        name: case.name,
        states: 0,
        verdict: "holds",
        as_expected: case.expected == Expected::Holds,
        interleaving: None,
    };
    for instance in &case.instances {
        let outcome = explore(instance)?;
        line.states += outcome.states;
        match outcome.verdict {
            Verdict::Holds => continue,
            Verdict::Fails { how, interleaving } => {
                line.verdict = how;
                line.as_expected = case.expected == Expected::Fails;
                line.interleaving = Some(interleaving);
            }
            Verdict::NeverEnds => {
                line.verdict = "never ends";
                line.as_expected = false;
            }
        }
        break;
    }
    Ok(line)
}

/// The table, as it is printed and as the documentation has it.
pub fn table(lines: &[Line]) -> String {
    let mut table = format!("{:<52} {:>9}  verdict\n", "protocol", "states");
    for Line { name, states, verdict, as_expected, .. } in lines {
        let remark = if *as_expected { "" } else { "  <- not as expected" };
        let _ = writeln!(table, "{name:<52} {states:>9}  {verdict}{remark}");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;

    fn named(name: &str) -> Result<Line> {
        let case = cases::all().into_iter().find(|case| case.name.trim() == name);
        line(&case.ok_or_else(|| anyhow::anyhow!("no case {name}"))?)
    }

    #[test]
    fn the_published_protocol_loses_an_event() -> Result<()> {
        let found = named("published protocol")?;
        assert_eq!((found.verdict, found.as_expected), ("loses an event", true));
        let words = found.interleaving.unwrap_or_default();
        assert!(
            words.ends_with("=> In a new snapshot, event 1 is in the log and not in the model.\n"),
            "{words}"
        );
        Ok(())
    }

    #[test]
    fn what_comes_out_otherwise_is_said() -> Result<()> {
        let mut case = cases::all().remove(0);
        case.expected = Expected::Holds;
        let found = line(&case)?;
        assert!(!found.as_expected);
        assert!(table(&[found]).contains("not as expected"));
        Ok(())
    }

    #[test]
    fn the_same_comes_out_each_time() -> Result<()> {
        let (first, second) = (named("gate taken after the draw")?, named("gate taken after the draw")?);
        assert_eq!((first.states, first.interleaving), (second.states, second.interleaving));
        Ok(())
    }
}
