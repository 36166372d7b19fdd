//! What SQL calls: take the arguments, call the layer below, return the result.

mod append;
mod installation;
mod jobs;
mod projection;
mod read;
mod shadow;
mod triggers;
