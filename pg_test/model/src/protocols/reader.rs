//! A reader in REPEATABLE READ: takes its snapshot with the log, reads the model at leisure.

use crate::kernel::{Mode, Target};
use crate::program::{Flow, Program};
use crate::session::Isolation;

pub fn reader() -> Program {
    Program::new("the reader")
        .begin(Isolation::RepeatableRead)
        .then(|act| {
            act.snapshot();
            act.say(|| "reads the log, and keeps that snapshot".into());
            Flow::Next
        })
        .lock(Target::Live, Mode::AccessShare)
        .end_reading()
}
