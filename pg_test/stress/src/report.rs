//! What a run prints at its end.

use std::fmt;
use std::time::Duration;

use crate::final_checks::Whole;
use crate::history::clock;
use crate::run::Options;
use crate::stats::{Longest, Numbers};

/// The figures of a run; of a failed one, up to the failure.
#[derive(Debug, Clone)]
pub struct Report {
    options: Options,
    elapsed: Duration,
    pub numbers: Numbers,
    whole: Option<Whole>,
}

impl Report {
    pub fn new(options: Options, elapsed: Duration, numbers: Numbers, whole: Option<Whole>) -> Self {
        Self { options, elapsed, numbers, whole }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = &self.numbers;
        let Options { seed, writers, .. } = self.options;
        writeln!(out, "seed {seed}, {writers} writers, {:.1?}", self.elapsed)?;
        writeln!(
            out,
            "  {} events in {} transactions ({} of them prepared first); {} appends repeated, {} refused as they must",
            n.events, n.transactions, n.prepared, n.repeated, n.refused
        )?;
        let r = &n.rebuilds;
        writeln!(
            out,
            "  {} rebuilds ({} transactions rolled back), {} verifications, {} creations, drops and alterations",
            r.done, r.rolled_back, n.verifications, n.changes
        )?;
        writeln!(
            out,
            "  {} snapshots compared, {} polls; {} cancels, {} sessions ended",
            n.looks, n.polls, n.cancels, n.terminations
        )?;
        writeln!(
            out,
            "  longest rebuild {:.1?}, its gate {:.1?}, most attempts {}",
            r.longest, r.longest_gate, r.most_attempts
        )?;
        writeln!(
            out,
            "  longest append {}, of the probe, whom only rebuilds and ALTER TABLE delay, {}",
            Stall(n.longest_append),
            Stall(n.longest_probe)
        )?;
        for (operation, state, count) in &n.errors {
            writeln!(out, "  {operation:<28} {state:<16} {count:>6}")?;
        }
        if let Some(Whole { logged, unknown, followed }) = self.whole {
            writeln!(
                out,
                "  at the end: {logged} events, {followed} read by pollers, {unknown} transactions unknown"
            )?;
        }
        Ok(())
    }
}

struct Stall(Option<Longest>);

impl fmt::Display for Stall {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(Longest { time, at }) => write!(out, "{time:.1?} (until {})", clock(at)),
            None => out.write_str("none"),
        }
    }
}
