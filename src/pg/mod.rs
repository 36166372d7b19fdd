//! The boundary to PostgreSQL: the only place with `unsafe`.
//!
//! Rules that every function here relies on and keeps:
//! - A backend is one thread; statics are thread-local.
//! - An error of PostgreSQL unwinds as a Rust panic through pgrx's guards, one of user code travels as
//!   [`crate::error::ForeignError`]. Both end the (sub)transaction, so what a (sub)transaction's abort undoes (locks,
//!   snapshots, settings, identity, SPI) is undone by it, never by a destructor.
//! - Therefore no caller may swallow an `Err` that has crossed a statement, a switch of role or settings, or a scratch
//!   memory: they are left open.
//! - pgrx's own reports (`ereport!`, `ErrorReport::report`) below ERROR are not used: what PostgreSQL raises while it sends
//!   them would jump over frames of Rust.

pub mod background;
pub mod call;
pub mod catalog;
pub mod databases;
pub mod event_tuple;
pub mod failure;
pub mod identity;
pub mod interval;
pub mod invalidation;
pub mod jsonb;
pub mod last_version;
pub mod latch;
pub mod locks;
pub mod log_table;
pub mod memory;
pub mod model_row;
pub mod procedure;
pub mod process;
pub mod progress;
pub mod row_security;
pub mod schema;
mod search_path;
pub mod sequence;
pub mod shim;
pub mod snapshot;
pub mod spi;
pub mod storage;
pub mod subtransaction;
pub mod transaction;
pub mod trigger;
pub mod types;
pub mod unlogged;
pub mod waitpoint;
