//! Heavyweight locks, with the queue that makes a waiting strong lock stop the weak ones behind it.

use super::{Xid, XidSet};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What can be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The relation `refold.gate`.
    Gate,
    /// The read model's table, and the copy that a concurrent rebuild fills.
    Live,
    Shadow,
    /// The sequence of positions.
    Sequence,
    /// The published protocol's advisory lock.
    Advisory,
    /// Key locks: one stream's appends, one fold key, the rebuilds of one projection.
    Stream(char),
    Key(char),
    Rebuild,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gate => write!(f, "the gate"),
            Self::Live => write!(f, "the live table"),
            Self::Shadow => write!(f, "the shadow"),
            Self::Sequence => write!(f, "the sequence"),
            Self::Advisory => write!(f, "the advisory lock"),
            Self::Stream(name) => write!(f, "stream {name}'s lock"),
            Self::Key(name) => write!(f, "key {name}'s lock"),
            Self::Rebuild => write!(f, "the projection's rebuild lock"),
        }
    }
}

/// The modes in use, in PostgreSQL's order of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    AccessShare,
    RowShare,
    RowExclusive,
    Share,
    ShareRowExclusive,
    Exclusive,
    AccessExclusive,
}

impl Mode {
    /// PostgreSQL's conflict table.
    pub fn conflicts(self, other: Self) -> bool {
        use Mode::*;
        let weakest = match self {
            AccessShare => AccessExclusive,
            RowShare => Exclusive,
            RowExclusive => return other >= Share,
            Share => return other >= RowExclusive && other != Share,
            ShareRowExclusive => RowExclusive,
            Exclusive => RowShare,
            AccessExclusive => AccessShare,
        };
        other >= weakest
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// One session's request; `xid` is the transaction that it is made for, [`Xid::INITIAL`] for a session-level lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Request {
    pub session: usize,
    pub xid: Xid,
    pub mode: Mode,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Lock {
    /// Sorted: the order of grants makes no difference.
    held: Vec<Request>,
    waiting: Vec<Request>,
}

impl Lock {
    fn is_held_against(&self, request: &Request) -> bool {
        self.held.iter().any(|held| held.session != request.session && held.mode.conflicts(request.mode))
    }

    fn grant(&mut self, request: Request) {
        self.held.push(request);
        self.held.sort_unstable();
    }

    /// Where in the queue PostgreSQL puts a request: at the end, but before anyone who waits for its own session.
    fn place_of(&self, request: &Request) -> usize {
        let own: Vec<_> = self.held.iter().filter(|held| held.session == request.session).collect();
        let waits_for_us = |waiter: &Request| own.iter().any(|held| held.mode.conflicts(waiter.mode));
        self.waiting.iter().position(waits_for_us).unwrap_or(self.waiting.len())
    }

    /// Grants what can be granted, in the order of the queue: nobody overtakes a waiter that it conflicts with.
    fn wake(&mut self) {
        let mut ahead: Vec<Request> = Vec::new();
        for request in std::mem::take(&mut self.waiting) {
            if self.is_held_against(&request) || ahead.iter().any(|other| other.mode.conflicts(request.mode))
            {
                ahead.push(request);
            } else {
                self.grant(request);
            }
        }
        self.waiting = ahead;
    }
}

/// The lock table; states that have the same lock share it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Locks(BTreeMap<Target, Arc<Lock>>);

impl Locks {
    /// Grants the lock, or queues the request: true if it is granted.
    pub fn request(&mut self, target: Target, request: Request) -> bool {
        let lock = Arc::make_mut(self.0.entry(target).or_default());
        let place = lock.place_of(&request);
        let ahead = &lock.waiting[..place];
        let granted = !lock.is_held_against(&request)
            && !ahead.iter().any(|waiter| waiter.mode.conflicts(request.mode));
        if granted {
            lock.grant(request);
        } else {
            lock.waiting.insert(place, request);
        }
        granted
    }

    /// Grants the lock if that needs no waiting.
    pub fn request_at_once(&mut self, target: Target, request: Request) -> bool {
        let granted = self.request(target, request);
        if !granted {
            self.withdraw(target, request.session);
        }
        granted
    }

    pub fn holds(&self, target: Target, session: usize, mode: Mode) -> bool {
        let held = self.0.get(&target).map_or(&[][..], |lock| &lock.held);
        held.iter().any(|held| held.session == session && held.mode == mode)
    }

    pub fn is_waiting(&self, target: Target, session: usize) -> bool {
        self.0.get(&target).is_some_and(|lock| lock.waiting.iter().any(|waiter| waiter.session == session))
    }

    /// Whether anybody waits for anything.
    pub fn has_waiter(&self) -> bool {
        self.0.values().any(|lock| !lock.waiting.is_empty())
    }

    /// Takes a waiting request back: lock_timeout.
    pub fn withdraw(&mut self, target: Target, session: usize) {
        self.change(target, |lock| lock.waiting.retain(|waiter| waiter.session != session));
    }

    /// Gives one lock back before the transaction ends.
    pub fn release(&mut self, target: Target, session: usize, mode: Mode) {
        self.change(target, |lock| lock.held.retain(|held| held.session != session || held.mode != mode));
    }

    /// Gives back what a session holds for a transaction, or for itself ([`Xid::INITIAL`]).
    pub fn release_all(&mut self, session: usize, xid: Xid) {
        let of_it = |request: &Request| request.session == session && request.xid == xid;
        let has_any = |lock: &Lock| lock.held.iter().chain(&lock.waiting).any(of_it);
        let targets: Vec<_> =
            self.0.iter().filter(|(_, lock)| has_any(lock)).map(|(target, _)| *target).collect();
        for target in targets {
            self.change(target, |lock| {
                lock.held.retain(|held| !of_it(held));
                lock.waiting.retain(|waiter| !of_it(waiter));
            });
        }
    }

    /// The transactions of others that hold the lock in a mode that conflicts; waiters do not count.
    pub fn holders_against(&self, target: Target, session: usize, mode: Mode) -> XidSet {
        let held = self.0.get(&target).map_or(&[][..], |lock| &lock.held);
        let against = held.iter().filter(|held| held.session != session && held.mode.conflicts(mode));
        against.map(|held| held.xid).collect()
    }

    fn change(&mut self, target: Target, change: impl FnOnce(&mut Lock)) {
        if let Some(lock) = self.0.get_mut(&target) {
            let lock = Arc::make_mut(lock);
            change(lock);
            lock.wake();
            if lock.held.is_empty() && lock.waiting.is_empty() {
                self.0.remove(&target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Mode::*;
    use super::*;

    const ALL: [Mode; 7] =
        [AccessShare, RowShare, RowExclusive, Share, ShareRowExclusive, Exclusive, AccessExclusive];

    fn by(session: usize, mode: Mode) -> Request {
        Request { session, xid: Xid::new(session, 0), mode }
    }

    #[test]
    fn conflicts_are_those_of_the_manual() {
        let row = |mode: Mode| ALL.map(|other| if mode.conflicts(other) { 'X' } else { '.' });
        let table: Vec<String> = ALL.iter().map(|&mode| row(mode).iter().collect()).collect();
        assert_eq!(table, ["......X", ".....XX", "...XXXX", "..X.XXX", "..XXXXX", ".XXXXXX", "XXXXXXX"]);
    }

    #[test]
    fn weak_locks_queue_behind_a_waiting_strong_one() {
        let mut locks = Locks::default();
        assert!(locks.request(Target::Gate, by(0, RowExclusive)));
        assert!(locks.request(Target::Gate, by(1, RowExclusive)), "two appends do not conflict");
        assert!(!locks.request(Target::Gate, by(2, ShareRowExclusive)), "the rebuild waits");
        assert!(!locks.request(Target::Gate, by(3, RowExclusive)), "and a third append behind it");
        assert!(!locks.request_at_once(Target::Gate, by(4, RowExclusive)));

        locks.release_all(0, Xid::new(0, 0));
        assert!(locks.is_waiting(Target::Gate, 2), "one append still holds it");
        locks.release_all(1, Xid::new(1, 0));
        assert!(locks.holds(Target::Gate, 2, ShareRowExclusive));
        assert!(locks.is_waiting(Target::Gate, 3));
        locks.release_all(2, Xid::new(2, 0));
        assert!(locks.holds(Target::Gate, 3, RowExclusive));
    }

    #[test]
    fn a_timeout_lets_the_queue_pass() {
        let mut locks = Locks::default();
        locks.request(Target::Gate, by(0, RowExclusive));
        locks.request(Target::Gate, by(1, ShareRowExclusive));
        locks.request(Target::Gate, by(2, RowExclusive));
        locks.withdraw(Target::Gate, 1);
        assert!(locks.holds(Target::Gate, 2, RowExclusive));
    }

    #[test]
    fn a_holder_goes_before_those_who_wait_for_it() {
        let mut locks = Locks::default();
        locks.request(Target::Live, by(0, AccessShare));
        assert!(!locks.request(Target::Live, by(1, AccessExclusive)));
        assert!(locks.request(Target::Live, by(0, RowExclusive)), "or the two would wait for each other");
    }

    #[test]
    fn only_holders_are_waited_for() {
        let mut locks = Locks::default();
        locks.request(Target::Gate, by(0, RowExclusive));
        locks.request(Target::Gate, by(1, ShareRowExclusive));
        let holders = locks.holders_against(Target::Gate, 2, ShareRowExclusive);
        assert_eq!(holders, XidSet::from_iter([Xid::new(0, 0)]));
        assert!(locks.holders_against(Target::Gate, 2, RowShare).is_empty());
    }
}
