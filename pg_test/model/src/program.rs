//! What one session does, step by step: a step is what nobody else can come between.

use crate::kernel::{Mode, Target};
use crate::session::{Act, Isolation};
use std::sync::Arc;

/// What follows a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The next step.
    Next,
    /// The same step again: something has changed, such as a queue.
    Stay,
    /// The same step again: it cannot be done yet, and nothing has changed.
    Wait,
    /// The step after the next one.
    Over,
    To(&'static str),
    /// The transaction aborts, for this reason. The program goes on at the label "retry" where it has one, twice.
    Fail(&'static str),
    End,
}

/// The moments of a commit, in words.
pub const COMMITS: [&str; 3] = [
    "commits: its writes are visible now",
    "tells all backends that the registry has changed",
    "releases its locks",
];

type Run = Arc<dyn Fn(&mut Act<'_>) -> Flow + Send + Sync>;

#[derive(Clone)]
pub struct Step {
    pub run: Run,
    /// The other thing that can happen here: a timeout, a rollback, a failure.
    pub or: Option<Run>,
    /// Only decides what is next, by what the session remembers: part of the step before.
    pub quiet: bool,
}

/// The steps of one session.
#[derive(Clone)]
pub struct Program {
    pub name: String,
    pub steps: Vec<Step>,
    labels: Vec<(&'static str, usize)>,
    /// Where it starts again after its session was ended by force; without one it does not.
    pub restart: Option<&'static str>,
    /// Whether its session may be ended by force.
    pub may_crash: bool,
}

impl Program {
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), steps: Vec::new(), labels: Vec::new(), restart: None, may_crash: false }
    }

    pub fn label(mut self, label: &'static str) -> Self {
        self.labels.push((label, self.steps.len()));
        self
    }

    /// The step that a label names; the end, if none does.
    pub fn find(&self, label: &str) -> usize {
        let found = self.labels.iter().find(|(name, _)| *name == label);
        found.map_or(self.steps.len(), |(_, step)| *step)
    }

    pub fn then(mut self, run: impl Fn(&mut Act<'_>) -> Flow + Send + Sync + 'static) -> Self {
        self.steps.push(Step { run: Arc::new(run), or: None, quiet: false });
        self
    }

    /// The other thing that can happen in the step just given.
    pub fn or(mut self, run: impl Fn(&mut Act<'_>) -> Flow + Send + Sync + 'static) -> Self {
        if let Some(step) = self.steps.last_mut() {
            step.or = Some(Arc::new(run));
        }
        self
    }

    pub fn quietly(mut self, run: impl Fn(&mut Act<'_>) -> Flow + Send + Sync + 'static) -> Self {
        self.steps.push(Step { run: Arc::new(run), or: None, quiet: true });
        self
    }

    pub fn may_crash(self) -> Self {
        Self { may_crash: true, ..self }
    }

    pub fn restarts_at(self, label: &'static str) -> Self {
        Self { may_crash: true, restart: Some(label), ..self }
    }

    /// Goes on at the label if what was tried last was not had.
    pub fn unless_got(self, label: &'static str) -> Self {
        self.quietly(move |act| if act.me.memory.got { Flow::Next } else { Flow::To(label) })
    }

    pub fn begin(self, isolation: Isolation) -> Self {
        self.quietly(move |act| {
            act.begin(isolation);
            Flow::Next
        })
    }

    pub fn lock(self, target: Target, mode: Mode) -> Self {
        self.then(move |act| act.lock(target, mode))
    }

    /// Waits for a lock; when that takes too long, goes on at the label. How long that is, nobody knows.
    pub fn lock_or(self, target: Target, mode: Mode, label: &'static str) -> Self {
        self.lock(target, mode).or(move |act| match act.give_up_waiting(target) {
            true => Flow::To(label),
            false => Flow::Wait,
        })
    }

    /// Waits until those who hold the lock in a conflicting mode have ended, requesting nothing.
    pub fn wait_for_holders(self, target: Target, mode: Mode) -> Self {
        self.then(move |act| act.note_holders(target, mode)).await_noted()
    }

    /// Waits for the end of the transactions just noted.
    pub fn await_noted(self) -> Self {
        self.then(|act| {
            if !act.await_noted() {
                return Flow::Wait;
            }
            act.say(|| "finds that those have ended".into());
            Flow::Next
        })
    }

    /// The moments of a commit of which others can tell: visible, locks released.
    pub fn commit(self) -> Self {
        self.publish().release_locks()
    }

    /// The moments of a commit that has changed the registry.
    pub fn commit_and_invalidate(self) -> Self {
        self.publish().invalidate().release_locks()
    }

    /// The first moment of a commit.
    pub fn publish(self) -> Self {
        self.then(|act| {
            act.make_visible();
            act.say(|| COMMITS[0].into());
            Flow::Next
        })
    }

    /// The second.
    pub fn invalidate(self) -> Self {
        self.then(|act| {
            act.send_invalidations();
            act.say(|| COMMITS[1].into());
            Flow::Next
        })
    }

    /// The last.
    pub fn release_locks(self) -> Self {
        self.then(|act| {
            act.release_locks();
            act.say(|| COMMITS[2].into());
            Flow::Next
        })
    }

    /// Ends a transaction that has written nothing.
    pub fn end_reading(self) -> Self {
        self.then(|act| {
            act.release_locks();
            act.say(|| "ends its transaction".into());
            Flow::Next
        })
    }
}
