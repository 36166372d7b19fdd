//! Every interleaving of small instances of refold's protocols, and of those that lose events.
//!
//! `kernel` is PostgreSQL as far as a protocol can tell; `database` what the protocols keep there; `session` the
//! statements; `program` the sequence of steps that a session takes; `protocols` those programs, one file each;
//! `properties` what must hold; `world` the state machine that stateright explores and `explore` its exploration;
//! `narrate` the words for an interleaving; `cases` what is explored and must come of it; `report` the table,
//! `page` its copy in the documentation.

pub mod cases;
mod database;
mod explore;
mod kernel;
mod narrate;
pub mod page;
mod program;
mod properties;
mod protocols;
pub mod report;
mod session;
mod world;
