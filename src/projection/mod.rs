//! Projections: what they are, which there are, and applying them to events.
//!
//! `registry` knows them, `check` decides whether one may be created, `table` and `fold` know the tables a fold
//! writes, `keys` orders what feeds one row, `apply` runs handlers, `mirror` keeps a second model up, and `admission` and the trigger join them to an
//! append.

pub mod admission;
pub mod apply;
pub mod check;
pub mod fold;
pub mod function;
pub mod handler;
pub mod installation;
pub mod keys;
pub mod mirror;
pub mod registry;
pub mod table;
