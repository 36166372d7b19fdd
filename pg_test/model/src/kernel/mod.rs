//! PostgreSQL, as far as the protocols can tell: transactions and snapshots, row versions, locks with their queues.
//!
//! Nothing here knows of events or read models.

mod locks;
mod transactions;
mod versions;

pub use locks::{Locks, Mode, Request, Target};
pub use transactions::{Snapshot, Transactions, Xid, XidSet};
pub use versions::{Locked, Versions};
