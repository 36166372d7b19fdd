//! The protocols, one file each.

pub mod append;
pub mod atomic;
pub mod published;
pub mod reader;
