//! Breaks refold, or fails to: a seeded random workload against a server, whose every snapshot is compared with the log.
//!
//! `plan` draws what a writer does, `appender` does it, `retrier` appends until it is told, `ledger` holds
//! what they were told against the log; `rebuilder` and
//! `deployer` change the projections meanwhile, `operator` starts rebuild jobs and `controller` meddles with them; `chaos`
//! cancels and ends backends, `crasher` the server; `probe` finds out how long an append
//! waits, and for whom; `reader` and `poller` watch, by the `oracle`; `run` is one run of all of them, `controls` shows that they would find what they look for;
//! `follow` is a run of appends and a poller alone. `endurance` has no workload: what failures and interrupts leave.

mod appender;
mod chaos;
mod controller;
mod controls;
mod crasher;
mod deployer;
mod endurance;
mod final_checks;
mod finisher;
mod follow;
mod history;
mod job_plan;
mod ledger;
mod lines;
mod operation;
mod operator;
mod oracle;
mod plan;
mod poller;
mod probe;
mod reader;
mod rebuild_plan;
mod rebuilder;
mod report;
mod retrier;
mod run;
mod session;
mod shared;
mod stats;
mod world;

pub use controls::{CONTROLS, Control};
pub use crasher::{Crash, Crasher};
pub use endurance::{Answered, Kept, interrupts, leaks};
pub use follow::follow;
pub use report::Report;
pub use run::{Options, run, run_with_crashes};
