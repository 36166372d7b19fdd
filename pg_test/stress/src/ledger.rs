//! What the clients know about their transactions, and whether the log agrees. Knows nothing of PostgreSQL.

use std::collections::{BTreeSet, HashMap, HashSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    RolledBack,
    /// The connection was lost at the end: all of it or nothing.
    Unknown,
}

/// An event that an append acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Written {
    pub stream: String,
    pub version: i64,
}

/// One transaction. Its events carry its tag in their metadata.
#[derive(Debug, Clone)]
pub struct Entry {
    pub tag: String,
    pub outcome: Outcome,
    pub events: Vec<Written>,
    /// The positions that the appends returned: of the last event of each.
    pub positions: Vec<(Written, i64)>,
    /// How many events more there are if it is there: of a statement whose answer was lost.
    pub untold: usize,
}

/// One event as the log has it.
#[derive(Debug, Clone)]
pub struct Logged {
    pub tag: String,
    pub event: Written,
    pub position: i64,
}

/// What is wrong with the log, in words.
pub fn faults(ledger: &[Entry], log: &[Logged]) -> Vec<String> {
    let mut by_tag: HashMap<&str, Vec<&Logged>> = HashMap::new();
    for logged in log {
        by_tag.entry(&logged.tag).or_default().push(logged);
    }
    let mut faults = Vec::new();
    let mut known = HashSet::new();
    for entry in ledger {
        known.insert(entry.tag.as_str());
        let logged = by_tag.get(entry.tag.as_str()).map_or(&[][..], Vec::as_slice);
        if let Some(fault) = fault_of(entry, logged) {
            faults.push(format!("transaction {} ({:?}): {fault}", entry.tag, entry.outcome));
        }
    }
    let mut strangers: Vec<_> = by_tag.keys().filter(|tag| !known.contains(*tag)).collect();
    strangers.sort_unstable();
    faults.extend(strangers.iter().map(|tag| format!("nobody appended the events of transaction {tag:?}")));
    faults.extend(holes(log));
    faults
}

fn fault_of(entry: &Entry, logged: &[&Logged]) -> Option<String> {
    let there: BTreeSet<_> = logged.iter().map(|logged| &logged.event).collect();
    let told: BTreeSet<_> = entry.events.iter().collect();
    let whole = there.len() == told.len() + entry.untold && told.is_subset(&there);
    match entry.outcome {
        Outcome::RolledBack if !there.is_empty() => return Some(format!("the log has {there:?}")),
        Outcome::Committed if !whole => {
            return Some(format!("told {told:?}, the log has {there:?}"));
        }
        Outcome::Unknown if !whole && !there.is_empty() => {
            return Some(format!("half of it: told {told:?}, the log has {there:?}"));
        }
        _ if there.is_empty() => return None,
        _ => {}
    }
    let position_of: HashMap<_, _> = logged.iter().map(|logged| (&logged.event, logged.position)).collect();
    entry.positions.iter().find_map(|(event, position)| {
        let found = position_of.get(event)?;
        (found != position).then(|| format!("told position {position} for {event:?}, the log has {found}"))
    })
}

/// Streams whose versions are not 1, 2, ... in the order of the log, which is ordered by position.
fn holes(log: &[Logged]) -> Vec<String> {
    let mut versions: HashMap<&str, i64> = HashMap::new();
    let mut faults = Vec::new();
    for logged in log {
        let version = versions.entry(&logged.event.stream).or_default();
        if logged.event.version != *version + 1 {
            let (event, position) = (&logged.event, logged.position);
            faults.push(format!("after version {version} comes {event:?} at position {position}"));
        }
        *version = logged.event.version;
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(stream: &str, version: i64) -> Written {
        Written { stream: stream.to_owned(), version }
    }

    fn logged(tag: &str, stream: &str, version: i64, position: i64) -> Logged {
        Logged { tag: tag.to_owned(), event: written(stream, version), position }
    }

    fn entry(outcome: Outcome) -> Entry {
        let events = vec![written("a", 1), written("a", 2)];
        Entry { tag: "t".to_owned(), outcome, events, positions: vec![(written("a", 2), 2)], untold: 0 }
    }

    #[test]
    fn an_acknowledged_transaction_is_there() {
        let whole = [logged("t", "a", 1, 1), logged("t", "a", 2, 2)];
        assert!(faults(&[entry(Outcome::Committed)], &whole).is_empty());
        assert_eq!(faults(&[entry(Outcome::Committed)], &whole[..1]).len(), 1);
        assert_eq!(faults(&[entry(Outcome::Committed)], &[]).len(), 1);
    }

    #[test]
    fn an_unknown_one_is_whole_or_absent() {
        let whole = [logged("t", "a", 1, 1), logged("t", "a", 2, 2)];
        assert!(faults(&[entry(Outcome::Unknown)], &whole).is_empty());
        assert!(faults(&[entry(Outcome::Unknown)], &[]).is_empty());
        assert_eq!(faults(&[entry(Outcome::Unknown)], &whole[..1]).len(), 1);
    }

    #[test]
    fn a_lost_answer_is_whole_or_absent() {
        let whole = [logged("t", "a", 1, 1), logged("t", "a", 2, 2)];
        let lost = Entry { events: vec![], positions: vec![], untold: 2, ..entry(Outcome::Unknown) };
        assert!(faults(std::slice::from_ref(&lost), &whole).is_empty());
        assert!(faults(std::slice::from_ref(&lost), &[]).is_empty());
        assert_eq!(faults(&[lost], &whole[..1]).len(), 1);
    }

    #[test]
    fn a_rolled_back_or_strange_one_is_found() {
        let log = [logged("t", "a", 1, 1), logged("t", "a", 2, 2)];
        assert_eq!(faults(&[entry(Outcome::RolledBack)], &log).len(), 1);
        assert_eq!(faults(&[], &log).len(), 1);
    }

    #[test]
    fn what_is_told_twice_must_be_the_same() {
        let log = [logged("t", "a", 1, 1), logged("t", "a", 2, 2)];
        let told = |versions: &[i64], position| Entry {
            events: versions.iter().map(|&version| written("a", version)).collect(),
            positions: vec![(written("a", 2), 2), (written("a", 2), position)],
            ..entry(Outcome::Committed)
        };
        assert!(faults(&[told(&[1, 2, 1, 2], 2)], &log).is_empty());
        assert_eq!(faults(&[told(&[1, 2, 1, 2], 3)], &log).len(), 1);
        assert_eq!(faults(&[told(&[1, 2, 2, 3], 2)], &log).len(), 1);
    }

    #[test]
    fn holes_swaps_and_false_positions_are_found() {
        let swapped = [logged("t", "a", 2, 1), logged("t", "a", 1, 2)];
        assert!(faults(&[entry(Outcome::Committed)], &swapped).len() >= 2);
        let hole = [logged("t", "a", 1, 1), logged("t", "a", 3, 2)];
        assert!(!holes(&hole).is_empty());
    }
}
