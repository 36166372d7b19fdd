//! Breaks refold, or fails to: a seeded random workload against a server, whose every snapshot is compared with the log.
//!
//! `plan` draws what a writer does, `appender` does it, `ledger` holds what it was told against the log; `rebuilder` and
//! `deployer` change the projections meanwhile, `chaos` cancels and ends backends; `reader` and `poller` watch, by the
//! `oracle`; `run` is one run of all of them, `controls` shows that they would find what they look for;
//! `follow` is a run of appends and a poller alone.

mod appender;
mod chaos;
mod controls;
mod deployer;
mod final_checks;
mod finisher;
mod follow;
mod history;
mod ledger;
mod operation;
mod oracle;
mod plan;
mod poller;
mod reader;
mod rebuilder;
mod report;
mod run;
mod session;
mod shared;
mod stats;
mod world;

pub use controls::{CONTROLS, Control};
pub use follow::follow;
pub use report::Report;
pub use run::{Options, run};
