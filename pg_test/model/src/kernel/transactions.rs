//! Transactions, snapshots, and the moments of a commit.
//!
//! A commit is not one moment. First it becomes visible to new snapshots, then its invalidations are sent, then its
//! locks are released. A transaction that waits for another one's end waits for the last of these.

/// A transaction: the number of its session and its own number in there.
///
/// Numbers are fixed by who runs what, not by who comes first: states that differ in nothing else are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Xid(u8);

impl Xid {
    /// The transaction that made the initial state; every snapshot sees it.
    pub const INITIAL: Self = Self(0);
    /// Sessions and transactions of each that fit.
    const SESSIONS: u8 = 7;
    const EACH: u8 = 18;

    /// The `ordinal`th transaction of a session, counting from 0; the last number is used again when they run out.
    pub fn new(session: usize, ordinal: u8) -> Self {
        let session = (session as u8).min(Self::SESSIONS - 1);
        Self(1 + session * Self::EACH + ordinal % Self::EACH)
    }
}

/// A set of transactions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct XidSet(u128);

impl XidSet {
    pub fn insert(&mut self, xid: Xid) {
        self.0 |= 1 << xid.0;
    }

    pub fn remove(&mut self, xid: Xid) {
        self.0 &= !(1 << xid.0);
    }

    pub fn contains(self, xid: Xid) -> bool {
        self.0 & (1 << xid.0) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl FromIterator<Xid> for XidSet {
    fn from_iter<I: IntoIterator<Item = Xid>>(xids: I) -> Self {
        let mut set = Self::default();
        for xid in xids {
            set.insert(xid);
        }
        set
    }
}

/// What one look at the database sees: the transactions whose commit was visible then, and the looker's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Snapshot {
    committed: XidSet,
    own: Option<Xid>,
}

impl Snapshot {
    pub fn sees(&self, xid: Xid) -> bool {
        xid == Xid::INITIAL || self.own == Some(xid) || self.committed.contains(xid)
    }

    /// The transaction that it was taken in.
    pub fn owner(&self) -> Option<Xid> {
        self.own
    }

    /// The same moment, as another session would have seen it.
    #[must_use]
    pub fn of_others(self) -> Self {
        Self { own: None, ..self }
    }
}

/// Which transactions there are, and how far each is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Transactions {
    /// Visible to new snapshots.
    committed: XidSet,
    /// Begun, and its locks not yet released.
    open: XidSet,
}

impl Transactions {
    pub fn begin(&mut self, xid: Xid) {
        self.committed.remove(xid);
        self.open.insert(xid);
    }

    /// The first moment of a commit.
    pub fn make_visible(&mut self, xid: Xid) {
        self.committed.insert(xid);
    }

    /// The last moment of a commit, or an abort.
    pub fn end(&mut self, xid: Xid) {
        self.open.remove(xid);
    }

    /// Whether its writes may still come or go.
    pub fn in_progress(&self, xid: Xid) -> bool {
        self.open.contains(xid) && !self.committed.contains(xid)
    }

    pub fn open(&self) -> XidSet {
        self.open
    }

    pub fn snapshot(&self, own: Option<Xid>) -> Snapshot {
        Snapshot { committed: self.committed, own }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_was_committed_when_it_was_taken() {
        let (writer, reader) = (Xid::new(0, 0), Xid::new(1, 0));
        let mut transactions = Transactions::default();
        transactions.begin(writer);
        transactions.begin(reader);
        let before = transactions.snapshot(Some(reader));
        transactions.make_visible(writer);
        let after = transactions.snapshot(Some(reader));
        assert!(!before.sees(writer) && after.sees(writer));
        assert!(before.sees(reader) && before.sees(Xid::INITIAL), "its own, and the initial state");
        assert!(!before.of_others().sees(reader));
    }

    #[test]
    fn a_commit_is_visible_before_it_has_ended() {
        let xid = Xid::new(3, 2);
        let mut transactions = Transactions::default();
        transactions.begin(xid);
        assert!(transactions.in_progress(xid));
        transactions.make_visible(xid);
        assert!(!transactions.in_progress(xid) && transactions.open().contains(xid));
        transactions.end(xid);
        assert!(!transactions.open().contains(xid) && transactions.snapshot(None).sees(xid));
    }

    #[test]
    fn transactions_have_numbers_of_their_own() {
        let all: Vec<_> = (0..7).flat_map(|session| (0..18).map(move |n| Xid::new(session, n))).collect();
        let mut distinct = all.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(all.len(), distinct.len());
        assert!(!all.contains(&Xid::INITIAL));
    }
}
