//! Closing the gate without making appends wait long.
//!
//! A waiting strong lock queues every new append behind it. So a rebuild first waits politely, requesting nothing,
//! until whoever holds the gate or writes the live tables has ended; then it asks for the gate for a moment; and if it
//! does not get all it needs, it gives everything back, catches up and begins again, a bounded number of times.

use super::{MAX_PASSES, SMALL_TAIL};
use crate::error::{Error, Result};
use crate::log::watermark;
use crate::names::Position;
use crate::pg::catalog::Catalog;
use crate::pg::waitpoint::{self, Waitpoint};
use crate::pg::{identity, latch, locks};
use crate::settings;
use pgrx::pg_sys;
use std::time::Instant;

/// Milliseconds that one table may be waited for while appends wait at the gate; all waits of an attempt together stay
/// far below deadlock_timeout, so that no append is chosen as a deadlock's victim.
const LONGEST_TABLE_WAIT: i32 = 10;

/// What to do between two attempts.
pub trait Waiting {
    /// The gate is about to be waited for, the `attempt`th time.
    fn attempt(&mut self, attempt: i32);

    /// Positions up to this one have become final.
    fn catch_up(&mut self, up_to: Position) -> Result<()>;
}

/// Nothing to do but wait.
pub struct Patience;

impl Waiting for Patience {
    fn attempt(&mut self, _attempt: i32) {}

    fn catch_up(&mut self, _up_to: Position) -> Result<()> {
        Ok(())
    }
}

/// The gate, closed to the end of the transaction.
pub struct Closed {
    pub attempts: i32,
    pub since: Instant,
}

/// Whether this transaction has closed the gate already.
pub fn is_closed(catalog: &Catalog) -> bool {
    locks::holds(catalog.gate, locks::Mode::ShareRowExclusive)
}

/// 55006 if this transaction has appended: an append that waits for its stream holds the gate, which `close` would wait
/// for, a deadlock in which the append might be the victim.
pub fn require_no_append(catalog: &Catalog) -> Result<()> {
    if is_closed(catalog) || !locks::holds(catalog.gate, locks::Mode::RowExclusive) {
        return Ok(());
    }
    Err(Error::in_use("this transaction has appended events and cannot close the gate")
        .detail("An append by another session may wait for this transaction and hold the gate.")
        .hint("Commit before, or call refold.lock_gate() first in the transaction (appends wait)."))
}

/// I3: takes ShareRowExclusiveLock on the gate and ExclusiveLock on the tables, together. 55P03 with the blockers'
/// pids when all attempts are used up.
pub fn close(catalog: &Catalog, tables: &[pg_sys::Oid], waiting: &mut impl Waiting) -> Result<Closed> {
    let mut tables = tables.to_vec();
    tables.sort_unstable_by_key(|table| table.to_u32());
    close_over(catalog, &tables, locks::Mode::Exclusive, waiting)
}

/// As [`close`], with AccessExclusiveLock on relations that are given in the order in which to lock them.
pub fn close_with(
    catalog: &Catalog,
    relations: &[pg_sys::Oid],
    waiting: &mut impl Waiting,
) -> Result<Closed> {
    close_over(catalog, relations, locks::Mode::AccessExclusive, waiting)
}

fn close_over(
    catalog: &Catalog,
    tables: &[pg_sys::Oid],
    mode: locks::Mode,
    waiting: &mut impl Waiting,
) -> Result<Closed> {
    require_no_append(catalog)?;
    let gate = (catalog.gate, locks::Mode::ShareRowExclusive, settings::gate_timeout());
    let table_timeout = longest_table_wait();
    let wanted: Vec<_> =
        std::iter::once(gate).chain(tables.iter().map(|&table| (table, mode, table_timeout))).collect();

    for attempt in 1..=settings::gate_attempts() {
        waiting.attempt(attempt);
        // Where the gate is closed already, all appends wait: there is no time for politeness.
        if !is_closed(catalog) {
            locks::wait_for_holders(tables, mode);
            approach(catalog, waiting)?;
        }
        waitpoint::reach(Waitpoint::GateAsked);
        let since = Instant::now();
        if locks::lock_together(&wanted)? {
            return Ok(Closed { attempts: attempt, since });
        }
        back_off(attempt);
    }
    let attempts = settings::gate_attempts();
    let error = Error::not_had(format!("the gate could not be closed in {attempts} attempts"));
    Err(naming_holders(error, [catalog.gate].iter().chain(tables))?)
}

/// Waits for the gate's holders and catches up, until little has come meanwhile: the rest is replayed while appends
/// wait.
fn approach(catalog: &Catalog, waiting: &mut impl Waiting) -> Result<()> {
    for _ in 0..MAX_PASSES {
        let drawn = watermark::last_drawn(catalog)?;
        locks::wait_for_holders(&[catalog.gate], locks::Mode::ShareRowExclusive);
        // Whoever drew a position held the gate before and to the end: up to `drawn` all is final.
        waiting.catch_up(drawn)?;
        if watermark::last_drawn(catalog)? - drawn <= SMALL_TAIL {
            break;
        }
    }
    Ok(())
}

/// Leaves the others alone for a while: one to four times what the attempt may have cost them, by chance so that two
/// rebuilds do not keep step.
pub fn back_off(attempt: i32) {
    let longest = i64::from(settings::gate_timeout()) * i64::from(attempt.clamp(1, 4));
    latch::sleep(1 + (uuid::Uuid::now_v7().as_u128() % longest.max(1) as u128) as i64);
}

/// Milliseconds that one table may be waited for while others queue behind.
pub fn longest_table_wait() -> i32 {
    settings::gate_timeout().min(LONGEST_TABLE_WAIT)
}

/// A 55P03 with the pids of those who hold the relations.
pub fn naming_holders<'a>(error: Error, relations: impl Iterator<Item = &'a pg_sys::Oid>) -> Result<Error> {
    let mut pids = Vec::new();
    for &relation in relations {
        pids.extend(locks::relation_holders(relation)?);
    }
    pids.sort_unstable();
    pids.dedup();
    let pids: Vec<_> = pids.iter().map(i32::to_string).collect();
    let blockers = if pids.is_empty() { "none now".to_owned() } else { pids.join(", ") };
    Ok(error
        .detail(format!(
            "Processes that append or lock the projection's tables: {blockers}. Nothing has changed."
        ))
        .hint("Try again, end the long transactions, or raise refold.gate_timeout or refold.gate_attempts."))
}

/// `lock_gate()`: closes the gate for a transaction that alters a projection's tables.
pub fn lock_gate(catalog: &Catalog) -> Result<()> {
    close(catalog, &[], &mut Patience)?;
    limit_idling()
}

/// Until the transaction ends every append waits: a session that idles in it is ended by PostgreSQL.
pub fn limit_idling() -> Result<()> {
    const SETTING: &std::ffi::CStr = c"idle_in_transaction_session_timeout";
    let limit = settings::idle_gate_timeout();
    let current: i32 = identity::value_of(SETTING).parse().unwrap_or(0);
    if limit > 0 && (current == 0 || current > limit) {
        identity::set_local(SETTING, &limit.to_string())?;
    }
    Ok(())
}
