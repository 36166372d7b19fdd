//! The table of all protocols and their interleavings, and whether each came out as it must.

use crate::cases::{Case, Expected};
use crate::explore::{Outcome, Verdict, explore};
use anyhow::{Result, anyhow};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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

/// Explores all these, on as many threads as there are cores.
pub fn lines(cases: &[Case]) -> Result<Vec<Line>> {
    let instances: Vec<_> = cases.iter().flat_map(|case| &case.instances).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(instance) = instances.get(index) else { return done };
            done.push((index, explore(instance)));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut outcomes = BTreeMap::new();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            outcomes.extend(worker.join().map_err(|_| anyhow!("an exploration has panicked"))?);
        }
        anyhow::Ok(())
    })?;
    let mut outcomes = outcomes.into_values();
    let mut of_case = |case: &Case| outcomes.by_ref().take(case.instances.len()).collect::<Result<_>>();
    cases.iter().map(|case| Ok(line(case, of_case(case)?))).collect()
}

/// Sums up the instances of one protocol, up to one that fails.
fn line(case: &Case, outcomes: Vec<Outcome>) -> Line {
    let mut line = Line {
        name: case.name,
        states: 0,
        verdict: "holds",
        as_expected: case.expected == Expected::Holds,
        interleaving: None,
    };
    for outcome in outcomes {
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
    line
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

/// The lines' full names: those of variants are indented, and go with the line before that is not.
pub fn titles(lines: &[Line]) -> Vec<String> {
    let mut protocol = "";
    let title = |line: &Line| match line.name.strip_prefix("  ") {
        Some(variant) => format!("{protocol}, {variant}"),
        None => {
            protocol = line.name;
            protocol.to_owned()
        }
    };
    lines.iter().map(title).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;

    fn named(name: &str) -> Result<Case> {
        let case = cases::all().into_iter().find(|case| case.name.trim() == name);
        case.ok_or_else(|| anyhow!("no case {name}"))
    }

    #[test]
    fn the_published_protocol_loses_an_event() -> Result<()> {
        let found = lines(&[named("published protocol")?])?.remove(0);
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
        let mut case = named("published protocol")?;
        case.expected = Expected::Holds;
        let found = lines(&[case])?;
        assert!(!found[0].as_expected && table(&found).contains("not as expected"));
        Ok(())
    }

    #[test]
    fn the_same_comes_out_each_time() -> Result<()> {
        let twice = [named("gate taken after the draw")?, named("gate taken after the draw")?];
        let found = lines(&twice)?;
        assert_eq!((found[0].states, &found[0].interleaving), (found[1].states, &found[1].interleaving));
        Ok(())
    }
}
