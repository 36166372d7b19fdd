//! The protocols, one file each.

pub mod append;
pub mod atomic;
pub mod concurrent;
pub mod in_place;
pub mod published;
pub mod reader;
mod steps;
