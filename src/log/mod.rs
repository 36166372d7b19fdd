//! The log: parsing what a client gives, appending it, and telling what is final.
//!
//! Knows nothing of projections: whoever wants to see the events before they are drawn or written is an
//! [`append::Observer`].

pub mod append;
pub mod batch;
pub mod event_id;
pub mod watermark;
