//! What the threads of a run share: when to stop, whose backends there are, what is known, what is counted.

use postgres::Config;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::finisher::Prepared;
use crate::history::Timeline;
use crate::ledger::Entry;
use crate::probe::Watch;
use crate::session::Role;
use crate::stats::Stats;

/// Well below the server's max_prepared_transactions.
const MAX_PREPARED: usize = 12;

/// What a backend is at, for those who wait for it.
#[derive(Debug, Clone)]
pub struct Doing {
    pub text: String,
    /// Whether it closes the gate and then does more than cut over: that appends wait for it is no fault.
    pub keeps_gate: bool,
}

/// A backend of a client's.
#[derive(Debug, Clone, Copy)]
struct Backend {
    role: Role,
    /// How many outages there were before it was asked for.
    outages: u64,
}

pub struct Shared {
    pub config: Config,
    pub seed: u64,
    stop_load: AtomicBool,
    stop_all: AtomicBool,
    failed: AtomicBool,
    backends: Mutex<HashMap<i32, Backend>>,
    /// How often the server was, or was about to be, brought down.
    outages: AtomicU64,
    doing: Mutex<HashMap<i32, Doing>>,
    ended: Mutex<HashSet<i32>>,
    ledger: Mutex<Vec<Entry>>,
    prepared: Mutex<Vec<Prepared>>,
    slots: AtomicUsize,
    pub watch: Watch,
    pub timeline: Timeline,
    pub stats: Stats,
}

impl Shared {
    pub fn new(config: &Config, seed: u64) -> Self {
        Self {
            config: config.clone(),
            seed,
            stop_load: AtomicBool::new(false),
            stop_all: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            backends: Mutex::default(),
            outages: AtomicU64::new(0),
            doing: Mutex::default(),
            ended: Mutex::default(),
            ledger: Mutex::default(),
            prepared: Mutex::default(),
            slots: AtomicUsize::new(0),
            watch: Watch::default(),
            timeline: Timeline::default(),
            stats: Stats::default(),
        }
    }

    /// No new work for those who write.
    pub fn is_load_over(&self) -> bool {
        self.stop_load.load(Ordering::Relaxed) || self.has_failed()
    }

    /// No new work for those who watch.
    pub fn is_over(&self) -> bool {
        self.stop_all.load(Ordering::Relaxed) || self.has_failed()
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub fn end_load(&self) {
        self.stop_load.store(true, Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.end_load();
        self.stop_all.store(true, Ordering::Relaxed);
    }

    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// To be called before a crash, and when the server is back: whoever was connected in between is concerned, too.
    pub fn count_outage(&self) {
        self.outages.fetch_add(1, Ordering::SeqCst);
    }

    /// After an outage: who is still there was not hit, or came after it.
    pub fn survived(&self, pids: &[i32]) {
        let outages = self.outages();
        let mut backends = lock(&self.backends);
        for pid in pids {
            if let Some(backend) = backends.get_mut(pid) {
                backend.outages = outages;
            }
        }
    }

    /// Whether the server is being brought down, or not back yet.
    fn is_out(&self) -> bool {
        self.outages() % 2 == 1
    }

    pub fn outages(&self) -> u64 {
        self.outages.load(Ordering::SeqCst)
    }

    /// A backend that was asked for after so many outages.
    pub fn register(&self, pid: i32, role: Role, outages: u64) {
        // The number may have been another's, who was ended.
        lock(&self.ended).remove(&pid);
        lock(&self.backends).insert(pid, Backend { role, outages });
    }

    pub fn forget(&self, pid: i32) {
        lock(&self.backends).remove(&pid);
        lock(&self.doing).remove(&pid);
    }

    pub fn begin(&self, pid: i32, doing: Doing) {
        lock(&self.doing).insert(pid, doing);
    }

    pub fn doing(&self, pid: i32) -> Option<Doing> {
        lock(&self.doing).get(&pid).cloned()
    }

    /// Whose backend it is.
    pub fn who(&self, pid: i32) -> String {
        lock(&self.backends)
            .get(&pid)
            .map_or_else(|| "somebody".to_owned(), |backend| format!("{:?}", backend.role))
    }

    /// The backends that may be disturbed, in the order of their numbers.
    pub fn victims(&self) -> Vec<(i32, Role)> {
        let backends = lock(&self.backends);
        let disturbed = backends.iter().filter(|(_, backend)| backend.role != Role::Protected);
        let mut victims: Vec<_> = disturbed.map(|(pid, backend)| (*pid, backend.role)).collect();
        victims.sort_unstable_by_key(|(pid, _)| *pid);
        victims
    }

    /// To be called before a backend is ended.
    pub fn expect_end(&self, pid: i32) {
        lock(&self.ended).insert(pid);
    }

    pub fn was_ended(&self, pid: i32) -> bool {
        // Whoever got in after the blow, before PostgreSQL has noticed it, is thrown out as well.
        let crashed = |backend: &Backend| self.is_out() || backend.outages < self.outages();
        lock(&self.ended).contains(&pid) || lock(&self.backends).get(&pid).is_some_and(crashed)
    }

    pub fn record(&self, entry: Entry) {
        lock(&self.ledger).push(entry);
    }

    pub fn ledger(&self) -> MutexGuard<'_, Vec<Entry>> {
        lock(&self.ledger)
    }

    /// Waits until one more transaction can be prepared.
    pub fn take_slot(&self) {
        let more = |taken| (taken < MAX_PREPARED).then_some(taken + 1);
        while self.slots.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// One transaction that was to be prepared has ended.
    pub fn free_slot(&self) {
        self.slots.fetch_sub(1, Ordering::Relaxed);
    }

    /// What waits for the finisher.
    pub fn prepared(&self) -> MutexGuard<'_, Vec<Prepared>> {
        lock(&self.prepared)
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
