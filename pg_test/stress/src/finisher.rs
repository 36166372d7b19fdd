//! The session that commits or rolls back what others have prepared.

use anyhow::{Context, Result};
use std::thread;
use std::time::{Duration, Instant};

use crate::ledger::{Entry, Outcome};
use crate::operation::Operation;
use crate::session::{Failed, Fault, Role, Session};
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
    let mut asked_before = false;
    let never_prepared = loop {
        let error = match session.client.batch_execute(&format!("{verb} PREPARED '{tag}'")) {
            Ok(()) => break false,
            Err(error) => error,
        };
        let unknown = error.code().is_some_and(|code| code.code() == "42704");
        anyhow::ensure!(
            !unknown || !prepared.certain || asked_before,
            "{verb} PREPARED {tag}: {}",
            crate::session::explain(error)
        );
        let failed = session.overcome(Operation::FinishPrepared, Fault::Sql(error)).context(tag.clone())?;
        if failed == Failed::Refused {
            break true;
        }
        // The server has crashed: it was ended before, or is still there.
        asked_before = true;
    };
    let committed = prepared.commit && (!never_prepared || prepared.certain);
    prepared.entry.outcome = match (committed, prepared.commit && asked_before) {
        (true, _) => Outcome::Committed,
        // Never prepared, or committed just before the crash.
        (false, true) => Outcome::Unknown,
        (false, false) => Outcome::RolledBack,
    };
    if committed {
        shared.stats.committed(prepared.entry.events.len());
        shared.stats.prepared();
    }
    shared.free_slot();
    shared.record(prepared.entry);
    Ok(())
}
