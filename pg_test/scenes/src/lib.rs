//! Scenes: what several sessions do to each other, step by step, each step with its outcome, each scene with an oracle at
//! its end.
//!
//! `session` conducts the sessions, `world` is what they meet in, with the oracle. `operation` is what can meet, `scene` one
//! meeting, `matrix` all of them and the table of what comes of them; `cases` are the six that break another event store.

mod cases;
mod matrix;
mod operation;
mod scene;
mod session;
mod world;

pub use cases::{CASES, CAST as CAST_OF_CASES, Case, Mode};
pub use matrix::{CAST, PLAYED, Table, pairs};
pub use operation::Operation;
pub use session::Stage;
pub use world::Kind;
