//! What the clients were told about their appends, and whether the log agrees.

use anyhow::{Result, bail};
use std::collections::HashMap;

/// What must be in the log of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was acknowledged, or its commit is known to be on disk.
    Kept,
    /// It cannot have committed.
    Lost,
    /// Its answer was lost with the server: all of its events, or none.
    Unknown,
}

#[derive(Debug, Clone)]
struct Entry {
    tag: String,
    events: i64,
    fate: Fate,
}

#[derive(Debug, Default, Clone)]
pub struct Ledger(Vec<Entry>);

impl Ledger {
    /// A tag that no append has had, for an append's metadata.
    pub fn new_tag(&self) -> String {
        format!("tag-{:05}", self.0.len())
    }

    pub fn enter(&mut self, tag: &str, events: i64, fate: Fate) {
        self.0.push(Entry { tag: tag.to_owned(), events, fate });
    }

    /// An append was repeated, and is there now.
    pub fn keep(&mut self, tag: &str) {
        for entry in self.0.iter_mut().filter(|entry| entry.tag == tag) {
            entry.fate = Fate::Kept;
        }
    }

    /// Compares with the log, given as the number of events of each tag. What was unknown is settled: the log must not
    /// change its mind.
    pub fn compare(&mut self, log: &HashMap<String, i64>) -> Result<()> {
        let mut faults = Vec::new();
        for entry in &mut self.0 {
            let found = log.get(&entry.tag).copied().unwrap_or(0);
            if entry.fate == Fate::Unknown {
                entry.fate = if found == 0 { Fate::Lost } else { Fate::Kept };
            }
            let expected = if entry.fate == Fate::Kept { entry.events } else { 0 };
            if found != expected {
                faults.push(format!("{}: {found} events in the log, not {expected}", entry.tag));
            }
        }
        if log.len() > self.0.len() || log.keys().any(|tag| !self.0.iter().any(|entry| entry.tag == *tag)) {
            faults.push("events in the log that nobody has appended".to_owned());
        }
        if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("\n")) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fate, Ledger};
    use std::collections::HashMap;

    fn log(tags: &[(&str, i64)]) -> HashMap<String, i64> {
        tags.iter().map(|(tag, events)| ((*tag).to_owned(), *events)).collect()
    }

    #[test]
    fn tells_what_is_lost_torn_and_invented() {
        let mut ledger = Ledger::default();
        ledger.enter("kept", 2, Fate::Kept);
        ledger.enter("lost", 1, Fate::Lost);
        ledger.enter("unknown", 3, Fate::Unknown);
        assert!(ledger.compare(&log(&[("kept", 2), ("unknown", 2)])).is_err());
        let mut ledger = Ledger::default();
        ledger.enter("kept", 2, Fate::Kept);
        ledger.enter("lost", 1, Fate::Lost);
        ledger.enter("unknown", 3, Fate::Unknown);
        assert!(ledger.compare(&log(&[("kept", 2), ("unknown", 3)])).is_ok());
        // Settled: now it must stay.
        assert!(ledger.compare(&log(&[("kept", 2)])).is_err());
        assert!(ledger.compare(&log(&[("unknown", 3)])).is_err());
        assert!(ledger.compare(&log(&[("kept", 2), ("unknown", 3), ("lost", 1)])).is_err());
        assert!(ledger.compare(&log(&[("kept", 2), ("unknown", 3), ("alien", 1)])).is_err());
    }
}
