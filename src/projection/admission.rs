//! Projections in an append: what is locked before the draw, and what the trigger applies.
//!
//! The append leaves its events and the projections it has found under the gate here; the BEFORE trigger admits them
//! (and refuses rows that come any other way), the AFTER trigger applies the projections.
//!
//! Logical replication runs no statement for the rows that it brings: row triggers do the same for each of them.

use super::installation;
use super::keys::{self, Key, KeyLocks};
use super::registry::{self, Mode, Projection, Registry};
use crate::error::{Error, Result};
use crate::log::append::{self, Draft, Drafts, Observer};
use crate::pg::catalog::{self, Catalog};
use crate::pg::event_tuple::Event;
use crate::pg::shim::Scope;
use crate::pg::waitpoint::{self, Waitpoint};
use crate::pg::{event_tuple, locks, memory, process, row_security, snapshot};
use pgrx::PgSqlErrorCode;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What one projection has to do for one append.
struct Work {
    projection: Rc<Projection>,
    /// Which of the append's events it takes.
    events: Vec<usize>,
    keys: Option<Vec<Option<Key>>>,
}

/// An append between its insert and its triggers.
struct Pending {
    work: Vec<Work>,
    events: Vec<Draft>,
    admitted: bool,
}

thread_local! {
    static PENDING: RefCell<Option<Pending>> = const { RefCell::new(None) };
    /// What projections have to do for the replicated event at this position, between its two triggers.
    static REPLICATED: RefCell<Option<(Option<i64>, Vec<Work>)>> = const { RefCell::new(None) };
    static APPLYING: Cell<bool> = const { Cell::new(false) };
}

/// 55000 inside a handler: there `what` is not allowed. 25000 in a parallel worker, which may be running one.
pub fn refuse_in_handler(what: &str) -> Result<()> {
    if APPLYING.get() {
        return Err(Error::wrong_state(format!("a handler must not {what}"))
            .hint("A handler writes its projection's tables, and nothing that its rebuild would do again."));
    }
    if process::is_in_parallel_mode() {
        return Err(Error::new(
            PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_STATE,
            format!("cannot {what} during a parallel operation"),
        )
        .hint("Declare the function that does this PARALLEL UNSAFE."));
    }
    Ok(())
}

const MEND_TRIGGERS: &str = "Enable them: ALTER TABLE refold.event ENABLE ALWAYS TRIGGER admit, \
    ENABLE ALWAYS TRIGGER apply, ENABLE ALWAYS TRIGGER immutable, ENABLE REPLICA TRIGGER admit_replicated, \
    ENABLE REPLICA TRIGGER apply_replicated.";

/// While it lives, user code of projections runs.
pub struct Applying(bool);

impl Applying {
    pub fn begin() -> Self {
        Self(APPLYING.replace(true))
    }
}

impl Drop for Applying {
    fn drop(&mut self) {
        APPLYING.set(self.0);
    }
}

/// One append's part in the projections.
#[derive(Default)]
pub struct Admission {
    work: Vec<Work>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        PENDING.with_borrow_mut(Option::take);
    }
}

impl Observer for Admission {
    fn before_draw(&mut self, catalog: &Catalog, drafts: &Drafts) -> Result<()> {
        let _applying = Applying::begin();
        let registry;
        (registry, self.work) = settled_work(catalog, drafts)?;
        if snapshot::keeps_one_snapshot() {
            registry::require_visible(catalog, self.work.iter().map(|work| work.projection.as_ref()))?;
            let event_types = drafts.types().map(str::to_owned).collect();
            registry::require_none_dropped(catalog, &registry, event_types)?;
        }
        let mut key_locks = KeyLocks::default();
        // What a rebuild in place has taken over needs no more than the check of the snapshot.
        self.work.retain(|work| work.projection.mode != Mode::Skipping);
        for work in &mut self.work {
            work.keys = keys::of_drafts(catalog, &work.projection, drafts, &work.events)?;
            key_locks.add(&work.projection, work.keys.as_deref());
        }
        key_locks.take(catalog)
    }

    fn wants_events(&self) -> bool {
        !self.work.is_empty()
    }

    fn before_insert(&mut self, events: Vec<Draft>) {
        let work = std::mem::take(&mut self.work);
        // Of an event that another trigger has left out, or one that this append comes before.
        REPLICATED.take();
        PENDING.set(Some(Pending { work, events, admitted: false }));
    }

    fn apply(&mut self) -> Result<()> {
        apply_insert()
    }

    fn after_insert(&mut self) -> Result<()> {
        match PENDING.take() {
            None => Ok(()),
            Some(_) => Err(Error::damaged("the triggers of refold.event did not fire").hint(MEND_TRIGGERS)),
        }
    }
}

/// I4: the projections that take these events, read under the gate, and again once their tables are locked, until
/// nothing changes.
fn settled_work(catalog: &Catalog, drafts: &Drafts) -> Result<(Rc<Registry>, Vec<Work>)> {
    loop {
        let registry = registry::current(catalog)?;
        let work = work_of(&registry, drafts);
        let mut tables: Vec<_> = work.iter().flat_map(|work| work.projection.written()).collect();
        tables.sort_unstable_by_key(|table: &pgrx::pg_sys::Oid| table.to_u32());
        for table in tables {
            locks::lock_relation(table, locks::Mode::RowExclusive);
        }
        if Rc::ptr_eq(&registry, &registry::current(catalog)?) {
            work.iter().try_for_each(|work| require_unfiltered(&work.projection))?;
            return Ok((registry, work));
        }
    }
}

/// 42501 where row-level security would hide a projection's own rows from its handler. The tables are locked.
fn require_unfiltered(projection: &Projection) -> Result<()> {
    if projection.written().any(|table| row_security::filters(table, projection.owner)) {
        return Err(Error::not_allowed(format!(
            "row-level security is forced on a table of projection \"{}\"",
            projection.name
        ))
        .detail("Its handler, which runs as the owner of the tables, might not see all rows.")
        .hint("Use ALTER TABLE ... NO FORCE ROW LEVEL SECURITY."));
    }
    Ok(())
}

fn work_of(registry: &Registry, drafts: &Drafts) -> Vec<Work> {
    registry
        .projections
        .iter()
        .filter_map(|projection| {
            let takes = |&(_, event_type): &(usize, &str)| projection.takes(event_type);
            let events: Vec<_> = drafts.types().enumerate().filter(takes).map(|(index, _)| index).collect();
            (!events.is_empty()).then(|| Work { projection: Rc::clone(projection), events, keys: None })
        })
        .collect()
}

/// The BEFORE trigger on the log: I1 for whoever inserts, and only an append may, or a restore before the store is open.
pub fn admit_insert() -> Result<()> {
    let admitted = PENDING.with_borrow_mut(|pending| match pending {
        Some(pending) => !std::mem::replace(&mut pending.admitted, true),
        None => false,
    });
    if admitted { Ok(()) } else { installation::admit_event() }
}

/// The AFTER trigger on the log: applies the projections to the events, in the order of their creation.
pub fn apply_insert() -> Result<()> {
    let Some(Pending { work, events, .. }) = PENDING.take() else {
        return installation::event_restored();
    };
    waitpoint::reach(Waitpoint::AppendInserted);
    // The append holds the gate since before `work` was read, so this finds the same objects.
    apply(&catalog::get()?, &work, &events)
}

fn apply(catalog: &Catalog, work: &[Work], events: &[Draft]) -> Result<()> {
    let _applying = Applying::begin();
    for Work { projection, events: taken, keys } in work {
        let events: Vec<_> = taken.iter().map(|&index| &events[index]).collect();
        let mut scope = Scope::new(&projection.c_name, event_tuple::descriptor(catalog));
        projection.as_owner(|| {
            projection.live_model(catalog)?.apply(catalog, &events, keys.as_deref(), &mut scope)
        })?;
        waitpoint::reach(Waitpoint::AppendOneApplied);
        if let Some(mirror) = &projection.mirror {
            mirror.apply(catalog, projection, &events, keys.as_deref())?;
            waitpoint::reach(Waitpoint::MirrorApplied);
        }
    }
    Ok(())
}

/// Whether the row that is being inserted comes by a statement, whose trigger has admitted it.
pub fn is_admitted() -> bool {
    PENDING.with_borrow(|pending| pending.as_ref().is_some_and(|pending| pending.admitted))
        || installation::is_restoring()
}

/// The BEFORE ROW trigger on the log, for an event that comes by no statement: what an append does until it inserts. Returns
/// the event with its place in this log.
pub fn admit_replicated(event: impl FnOnce() -> Result<Event>) -> Result<Event> {
    require_one_after_the_other()?;
    // What the projections have to do is kept beyond the trigger's own memory.
    memory::until_next(|| {
        installation::require_open()?;
        let mut admission = Admission::default();
        let event = append::admit_replicated(event()?, &mut admission)?;
        REPLICATED.set(Some((event.position, std::mem::take(&mut admission.work))));
        Ok(event)
    })
}

/// 0A000 where a subscription's transactions are applied side by side. One could hold the locks of its keys while it waits for
/// the rest of it, and the next wait for them before it hands that rest over: not shown to happen, nor to be impossible.
fn require_one_after_the_other() -> Result<()> {
    if !process::applies_in_parallel() {
        return Ok(());
    }
    Err(Error::unsupported("events cannot be applied by parallel workers of a subscription")
        .detail("Two that feed one row of a projection could wait for each other, and no test shows that they do not.")
        .hint("Use ALTER SUBSCRIPTION ... SET (streaming = on)."))
}

/// The AFTER ROW trigger: applies the projections to the event, unless the trigger of its statement does. XX001 if it was not
/// the last that was admitted: what another trigger appends in between is applied first, against the order of the draws (I6).
pub fn apply_replicated(event: impl FnOnce() -> Result<Event>) -> Result<()> {
    if is_admitted() {
        return Ok(());
    }
    let event = event()?;
    let work = match REPLICATED.take() {
        Some((position, work)) if position == event.position => work,
        _ => {
            return Err(Error::damaged("the triggers of refold.event did not fire")
                .detail("Or another trigger has appended events between them.")
                .hint(MEND_TRIGGERS));
        }
    };
    waitpoint::reach(Waitpoint::AppendInserted);
    let catalog = catalog::get()?;
    let datum = event_tuple::form(&catalog, &event);
    apply(&catalog, &work, &[Draft { stream_id: event.stream_id, datum }])
}
