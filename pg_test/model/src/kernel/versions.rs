//! One row under MVCC: its versions, and who may write the next.

use super::{Snapshot, Transactions, Xid};
use std::sync::Arc;

/// The versions of one row, oldest first, shared by the states that have the same. A row that does not exist is a value
/// of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Versions<T>(Arc<Vec<(Xid, T)>>);

/// Whether a writer gets the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    Yes,
    /// Another transaction's version is uncommitted: wait for its end.
    Busy,
    /// The transaction keeps one snapshot and that does not see the newest version: 40001.
    Changed,
}

impl<T: Clone> Versions<T> {
    pub fn new(initial: T) -> Self {
        Self(Arc::new(vec![(Xid::INITIAL, initial)]))
    }

    /// What a snapshot sees.
    pub fn seen_by(&self, snapshot: &Snapshot) -> &T {
        let seen = self.0.iter().rev().find(|(xid, _)| snapshot.sees(*xid));
        &seen.unwrap_or(&self.0[0]).1
    }

    /// The newest version, committed or not.
    pub fn newest(&self) -> &T {
        &self.0[self.0.len() - 1].1
    }

    /// Whether `writer` may write the next version; `kept` is its snapshot if it keeps one.
    pub fn lock(&self, writer: Xid, kept: Option<&Snapshot>, transactions: &Transactions) -> Locked {
        let (xid, _) = self.0[self.0.len() - 1];
        if xid != writer && transactions.in_progress(xid) {
            Locked::Busy
        } else if kept.is_some_and(|snapshot| !snapshot.sees(xid)) {
            Locked::Changed
        } else {
            Locked::Yes
        }
    }

    pub fn write(&mut self, writer: Xid, value: T) {
        let versions = Arc::make_mut(&mut self.0);
        match versions.last_mut() {
            Some((xid, newest)) if *xid == writer => *newest = value,
            _ => versions.push((writer, value)),
        }
    }

    /// Takes back what an aborted transaction wrote.
    pub fn undo(&mut self, writer: Xid) {
        if self.0.iter().any(|(xid, _)| *xid == writer) {
            Arc::make_mut(&mut self.0).retain(|(xid, _)| *xid != writer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_snapshots_see_old_versions() {
        let (first, second) = (Xid::new(0, 0), Xid::new(1, 0));
        let mut transactions = Transactions::default();
        let mut row = Versions::new('a');
        transactions.begin(first);
        row.write(first, 'b');
        let old = transactions.snapshot(None);
        assert_eq!((*row.seen_by(&old), *row.seen_by(&transactions.snapshot(Some(first)))), ('a', 'b'));
        assert_eq!(row.lock(second, None, &transactions), Locked::Busy);

        transactions.make_visible(first);
        assert_eq!((*row.seen_by(&old), *row.seen_by(&transactions.snapshot(None))), ('a', 'b'));
        assert_eq!(row.lock(second, None, &transactions), Locked::Yes, "READ COMMITTED takes the newest");
        assert_eq!(row.lock(second, Some(&old), &transactions), Locked::Changed, "REPEATABLE READ does not");
    }

    #[test]
    fn an_abort_takes_its_versions_back() {
        let xid = Xid::new(0, 0);
        let mut row = Versions::new('a');
        row.write(xid, 'b');
        row.write(xid, 'c');
        assert_eq!(*row.newest(), 'c');
        row.undo(xid);
        assert_eq!(*row.newest(), 'a');
    }
}
