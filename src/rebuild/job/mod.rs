//! Rebuilds by a background worker, in many transactions: concurrent, with a shadow that is swapped in, and in place.
//!
//! Each function here is what one transaction does; the worker decides which comes next, and the job's `row` says where
//! it is. `shadows` makes and removes the hidden tables, `building` replays into them, `parts` with several workers, `mirroring` makes appends keep
//! them up, `swapping` makes them live; `in_place` does without them. `control` is what other sessions do to a job.

pub mod building;
pub mod control;
pub mod in_place;
pub mod mirroring;
pub mod parts;
pub mod row;
pub mod shadows;
pub mod swapping;
