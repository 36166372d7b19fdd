//! The state machine that stateright explores: one session takes one step, or its alternative, or is killed.

use crate::database::Database;
use crate::program::{Flow, Program, Step};
use crate::properties::{self, Fault, Promise};
use crate::session::{Act, Session};
use stateright::{Model, Property};
use std::sync::atomic::{AtomicBool, Ordering};

/// A small instance of a protocol.
pub struct Instance {
    pub programs: Vec<Program>,
    pub database: Database,
    pub promise: Promise,
    /// How many sessions may be killed, of those that may.
    crashes: u8,
    /// Set by the first fault found: later ones have longer interleavings, and are not wanted.
    found: AtomicBool,
}

/// Everything there is, between two steps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub db: Database,
    pub sessions: Vec<Session>,
    /// How many sessions may still be killed.
    pub crashes: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Step(usize),
    /// The other thing that the step has.
    Other(usize),
    Kill(usize),
}

pub const SAFE: &str = "no fault";
pub const FINISHES: &str = "all can end";

impl Instance {
    /// Of one projection, whose model has two rows.
    pub fn new(programs: Vec<Program>, promise: Promise) -> Self {
        let database = Database::new(programs.len(), &['x', 'y']);
        Self { programs, database, promise, crashes: 1, found: AtomicBool::new(false) }
    }

    /// The same with one session more.
    pub fn and(self, program: Program) -> Self {
        Self::new(self.programs.into_iter().chain([program]).collect(), self.promise)
    }

    /// Lets something go wrong once where it can: a mirrored application, say.
    pub fn with_mishap(mut self) -> Self {
        self.database.mishaps = 1;
        self
    }

    pub fn without_crash(self) -> Self {
        Self { crashes: 0, ..self }
    }

    fn step_of(&self, session: &Session) -> Option<&Step> {
        self.programs[session.number].steps.get(session.at)
    }

    pub fn has_ended(&self, session: &Session) -> bool {
        self.step_of(session).is_none()
    }

    pub fn all_ended(&self, world: &World) -> bool {
        world.sessions.iter().all(|session| self.has_ended(session))
    }

    /// Whether nobody can do anything, though not all have ended: a deadlock, in which somebody waits for a lock.
    pub fn is_stuck(&self, world: &World) -> bool {
        world.db.locks.has_waiter()
            && (0..world.sessions.len()).all(|session| {
                [Action::Step(session), Action::Other(session)]
                    .into_iter()
                    .all(|action| self.next_state(world, action).is_none())
            })
    }

    /// The state after an action, with what happens in words.
    pub fn tell(&self, world: &World, action: Action, told: &mut Vec<String>) -> Option<World> {
        self.advance(world, action, Some(told))
    }

    fn advance(&self, world: &World, action: Action, told: Option<&mut Vec<String>>) -> Option<World> {
        let (Action::Step(number) | Action::Other(number) | Action::Kill(number)) = action;
        let step = self.step_of(&world.sessions[number])?;
        let mut next = world.clone();
        let mut act = Act { db: &mut next.db, me: &mut next.sessions[number], told };
        let flow = match action {
            Action::Step(_) => (step.run)(&mut act),
            Action::Other(_) => (step.or.as_ref()?)(&mut act),
            Action::Kill(_) => {
                next.crashes -= 1;
                self.kill(&mut act)
            }
        };
        if flow == Flow::Wait || !self.follow(&mut act, flow) {
            return None;
        }
        Some(next)
    }

    /// Moves a session on, and runs the quiet steps that follow. False if it turns out that it has to wait.
    fn follow(&self, act: &mut Act<'_>, mut flow: Flow) -> bool {
        let program = &self.programs[act.me.number];
        loop {
            match flow {
                Flow::Next => act.me.at += 1,
                Flow::Over => act.me.at += 2,
                Flow::Stay => return true,
                Flow::Wait => return false,
                Flow::To(label) => act.me.at = program.find(label),
                Flow::End => act.me.at = program.steps.len(),
                Flow::Fail(reason) => {
                    act.say(|| format!("aborts: {reason}"));
                    act.abort();
                    act.me.retries += 1;
                    act.me.at = program.find(if act.me.retries > 2 { "end" } else { "retry" });
                }
            }
            match program.steps.get(act.me.at) {
                Some(step) if step.quiet => flow = (step.run)(act),
                _ => return true,
            }
        }
    }

    fn kill(&self, act: &mut Act<'_>) -> Flow {
        act.say(|| "is killed; its transaction aborts".into());
        act.abort();
        act.db.locks.release_all(act.me.number, crate::kernel::Xid::INITIAL);
        act.me.cache = None;
        match self.programs[act.me.number].restart {
            Some(label) => Flow::To(label),
            None => Flow::End,
        }
    }

    /// What is wrong in this state, if anything is.
    pub fn fault(&self, world: &World) -> Option<Fault> {
        properties::fault(self, world)
    }

    fn is_first_fault(&self, world: &World) -> bool {
        !self.found.load(Ordering::Relaxed)
            && self.fault(world).is_some()
            && !self.found.swap(true, Ordering::Relaxed)
    }
}

impl Model for Instance {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut world = World {
            db: self.database.clone(),
            sessions: (0..self.programs.len()).map(Session::new).collect(),
            crashes: self.crashes,
        };
        for session in &mut world.sessions {
            if let Some(step) = self.programs[session.number].steps.first().filter(|step| step.quiet) {
                let mut act = Act { db: &mut world.db, me: session, told: None };
                let flow = (step.run)(&mut act);
                self.follow(&mut act, flow);
            }
        }
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for session in &world.sessions {
            let Some(step) = self.step_of(session) else { continue };
            actions.push(Action::Step(session.number));
            if step.or.is_some() {
                actions.push(Action::Other(session.number));
            }
            if world.crashes > 0 && self.programs[session.number].may_crash && !session.committing {
                actions.push(Action::Kill(session.number));
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        self.advance(world, action, None)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SAFE, |instance: &Instance, world: &World| !instance.is_first_fault(world)),
            Property::sometimes(FINISHES, |instance: &Instance, world: &World| instance.all_ended(world)),
        ]
    }
}
