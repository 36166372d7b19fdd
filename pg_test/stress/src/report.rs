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

    /// The server's log tells of each.
    pub fn killed_backends(&self) -> u64 {
        self.numbers.deeds_like("killed: worker") + self.numbers.deeds_like("killed: client")
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
        let r = &n.retried;
        writeln!(
            out,
            "  {} appends whose client hung up, {} found in the log when tried again; {} raced for an event_id, {} of \
             them for two streams",
            r.hung_up, r.found, r.raced, r.taken
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
            "  longest rebuild {:.1?}, most attempts {}; gate held longest {:.1?}, for {}: {} events, {} rows merged",
            r.longest,
            r.most_attempts,
            r.longest_gate.gate,
            r.longest_gate.projection,
            r.longest_gate.events,
            r.longest_gate.rows
        )?;
        writeln!(
            out,
            "  longest append of a writer {}; of the probe, whom only rebuilds and ALTER TABLE delay:",
            Stall(n.longest_append.as_ref())
        )?;
        writeln!(out, "    {}", Stall(n.longest_probe.as_ref()))?;
        if n.longest_by_design.is_some() {
            writeln!(out, "    behind who closes the gate early: {}", Stall(n.longest_by_design.as_ref()))?;
        }
        for (name, count) in &n.deeds {
            writeln!(out, "  {name:<45} {count:>6}")?;
        }
        for (operation, state, count) in &n.errors {
            writeln!(out, "  {operation:<28} {state:<16} {count:>6}")?;
        }
        if let Some(Whole { logged, unknown, followed, jobs, flaws }) = &self.whole {
            writeln!(
                out,
                "  jobs of projections that were not dropped: {jobs}; {flaws} failures of handlers on purpose"
            )?;
            writeln!(
                out,
                "  at the end: {logged} events, {followed} read by pollers, {unknown} transactions unknown"
            )?;
        }
        Ok(())
    }
}

/// The last looks at a stall that are printed.
const LOOKS: usize = 8;

struct Stall<'a>(Option<&'a Longest>);

impl fmt::Display for Stall<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Longest { time, at, looks }) = self.0 else { return out.write_str("none") };
        write!(out, "{time:.1?} (until {})", clock(*at))?;
        for look in &looks[looks.len().saturating_sub(LOOKS)..] {
            write!(out, "\n      after {:.1?}", look.after)?;
            for line in &look.chain {
                write!(out, "\n        {line}")?;
            }
        }
        Ok(())
    }
}
