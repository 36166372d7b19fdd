//! The session that commits or rolls back what others have prepared.

use anyhow::{Context, Result};
use std::thread;
use std::time::{Duration, Instant};

use crate::ledger::{Entry, Outcome};
use crate::operation::Operation;
use crate::session::{Fault, Role, Session};
use crate::shared::Shared;

/// A transaction that was prepared; its global id is its tag.
#[derive(Debug)]
pub struct Prepared {
    pub entry: Entry,
    pub due: Instant,
    pub commit: bool,
    /// Whether the writer was told that it is prepared; if not, it is or it never was.
    pub certain: bool,
}

/// Ends prepared transactions when they are due; at the end of the load all of them.
pub fn run(shared: &Shared, is_load_joined: &(dyn Fn() -> bool + Sync)) -> Result<()> {
    let mut session = Session::open(shared, Role::Protected, None)?;
    loop {
        let last = is_load_joined();
        let due: Vec<_> = {
            let now = Instant::now();
            shared.prepared().extract_if(.., |prepared| last || prepared.due <= now).collect()
        };
        if due.is_empty() && last {
            return Ok(());
        }
        for prepared in due {
            finish(&mut session, shared, prepared)?;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn finish(session: &mut Session, shared: &Shared, mut prepared: Prepared) -> Result<()> {
    let tag = prepared.entry.tag.clone();
    let verb = if prepared.commit { "COMMIT" } else { "ROLLBACK" };
    let never_prepared = match session.client.batch_execute(&format!("{verb} PREPARED '{tag}'")) {
        Ok(()) => false,
        Err(error) => {
            anyhow::ensure!(!prepared.certain, "{verb} PREPARED {tag}: {}", crate::session::explain(error));
            session.overcome(Operation::FinishPrepared, Fault::Sql(error)).context(tag)?;
            true
        }
    };
    let committed = prepared.commit && !never_prepared;
    prepared.entry.outcome = if committed { Outcome::Committed } else { Outcome::RolledBack };
    if committed {
        shared.stats.committed(prepared.entry.events.len());
        shared.stats.prepared();
    }
    shared.free_slot();
    shared.record(prepared.entry);
    Ok(())
}
