//! Filling tables from the log.
//!
//! The bulk goes through one statement for a fold and for a per-batch handler, and one statement per window for a
//! per-event handler; what came meanwhile, of a fold, through the code that appends use, on the copy.

use super::destination::Destination;
use super::fold_sql::FoldSql;
use super::gate::Waiting;
use super::merge;
use super::parallel;
use super::window::{LARGEST_BATCH, Window};
use crate::error::{Error, Result};
use crate::log::append::Draft;
use crate::names::Position;
use crate::pg::catalog::Catalog;
use crate::pg::progress::{Phase, Progress};
use crate::pg::shim::Scope;
use crate::pg::{event_tuple, identity, locks, memory, spi};
use crate::projection::admission::Applying;
use crate::projection::apply::Model;
use crate::projection::check::Checked;
use crate::projection::registry::Kind;
use crate::projection::table::Table;
use pgrx::pg_sys;
use std::mem;

/// Positions of the first window of a per-event replay; each next window is ten times as large, and the statistics
/// are collected anew between them.
const FIRST_WINDOW: i64 = 1000;
const LARGEST_WINDOW: i64 = 1_000_000;
/// A fold's tail of so few positions is folded event by event: planning one large statement takes longer.
const FEW: i64 = 200;

/// One part of a fold's keys, of as many as there are.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    pub part: i32,
    pub parts: i32,
}

/// One replay into one destination.
pub struct Replay<'a> {
    catalog: &'a Catalog,
    checked: &'a Checked,
    to: &'a Destination,
    pub progress: Progress,
    snapshot: spi::Snapshot,
    model: Option<Model>,
    scope: Scope,
    done: Position,
    events: i64,
    share: Option<Share>,
    /// A fold's copies are written by key only where a tail follows: a rebuild that no append meets spares the index.
    lacks_keys: bool,
    /// Positions of a per-event replay's next window.
    window: i64,
    /// Tables that the transaction had locked as TRUNCATE does before any handler ran.
    locked_before: Vec<pg_sys::Oid>,
    /// User code that runs while the replay lives, handlers and triggers of the merge alike, must not append.
    _applying: Applying,
}

impl<'a> Replay<'a> {
    /// A replay that reads the log on `snapshot`. Into copies, its handlers must not touch the live tables.
    pub fn new(
        catalog: &'a Catalog,
        checked: &'a Checked,
        to: &'a Destination,
        progress: Progress,
        snapshot: spi::Snapshot,
    ) -> Self {
        let mut scope = Scope::new(&checked.projection.c_name, event_tuple::descriptor(catalog));
        match (checked.projection.kind, &to.tables[..]) {
            (Kind::Fold, [table, ..]) => {
                scope.set_handler(checked.handler.oid, table.row_type, catalog.event_type);
            }
            (Kind::PerEvent, _) => {
                scope.set_handler(checked.handler.oid, pg_sys::InvalidOid, catalog.event_type);
            }
            (Kind::PerBatch, _) => {
                scope.set_handler(checked.handler.oid, pg_sys::InvalidOid, catalog.event_type);
                scope.set_batches(LARGEST_BATCH as i32);
            }
            (Kind::Fold, []) => {}
        }
        if to.schema.is_some() {
            scope.guard(&checked.projection.tables);
        }
        let tables = checked.projection.tables.iter().copied();
        Self {
            catalog,
            checked,
            to,
            progress,
            snapshot,
            model: None,
            scope,
            done: 0,
            events: 0,
            share: None,
            lacks_keys: false,
            window: FIRST_WINDOW,
            locked_before: tables
                .filter(|&table| locks::holds(table, locks::Mode::AccessExclusive))
                .collect(),
            _applying: Applying::begin(),
        }
    }

    /// Goes on where an earlier replay has ended.
    pub fn resume(&mut self, done: Position, events: i64) {
        (self.done, self.events, self.window) = (done, events, LARGEST_WINDOW);
    }

    /// Of a fold whose rows can be written in any order, replays one part of the keys only.
    pub fn take_share(&mut self, share: Share) {
        self.share = Some(share);
    }

    /// Events replayed so far.
    pub fn events(&self) -> i64 {
        self.events
    }

    /// Ends the progress report.
    pub fn finish(self) {
        self.progress.end();
    }

    /// Replays the log from its beginning up to a position, and gives the copies what they lack.
    pub fn all(&mut self, up_to: Position) -> Result<()> {
        self.progress.total(up_to);
        self.progress.phase(Phase::Replaying);
        identity::as_owner(self.checked.projection.owner, &self.to.settings, || {
            match self.checked.projection.kind {
                Kind::Fold => self.fold_all(up_to)?,
                Kind::PerEvent => self.call_per_event(up_to)?,
                Kind::PerBatch => self.call_per_batch(up_to)?,
            }
            self.progress.phase(Phase::Indexing);
            match self.checked.projection.kind {
                // The statements on its copy find their rows by the key: its size is all that they need to know.
                Kind::Fold => identity::with_few_statistics(|| self.to.analyze()),
                Kind::PerEvent | Kind::PerBatch => self.to.analyze(),
            }
        })?;
        self.lacks_keys = self.checked.projection.kind == Kind::Fold;
        self.require_live_untouched()?;
        self.done = up_to;
        self.progress.done(self.events);
        self.progress.phase(Phase::CatchingUp);
        Ok(())
    }

    /// 55000 if a handler has locked a live table: TRUNCATE and its like are no accesses that the executor checks.
    fn require_live_untouched(&self) -> Result<()> {
        let touched = |table: &&pg_sys::Oid| {
            locks::holds(**table, locks::Mode::AccessExclusive) && !self.locked_before.contains(table)
        };
        match self.checked.projection.tables.iter().find(touched) {
            None => Ok(()),
            Some(_) => Err(Error::wrong_state(format!(
                "handler of projection \"{}\" has locked a live table during a replay",
                self.checked.projection.name
            ))
            .hint("Name the projection's tables without a schema in the handler.")),
        }
    }

    /// Replays from where the replay is up to a position; returns how many positions that was.
    pub fn tail(&mut self, up_to: Position) -> Result<i64> {
        if up_to <= self.done {
            return Ok(0);
        }
        identity::as_owner(self.checked.projection.owner, &self.to.settings, || {
            if mem::take(&mut self.lacks_keys) {
                self.add_keys()?;
            }
            match self.checked.projection.kind {
                Kind::Fold => self.fold_on(up_to),
                Kind::PerEvent => self.call_per_event(up_to),
                Kind::PerBatch => self.call_per_batch(up_to),
            }
        })?;
        self.require_live_untouched()?;
        let positions = up_to - self.done;
        self.done = up_to;
        self.progress.total(up_to);
        self.progress.done(self.events);
        Ok(positions)
    }

    /// Which events of the log a statement reads; the positions go in as text, for utility commands take no
    /// parameters.
    fn wanted(&self, after: Position, up_to: Position) -> String {
        format!(
            "e.position OPERATOR(pg_catalog.>) {after} AND e.position OPERATOR(pg_catalog.<=) {up_to} AND {}",
            self.taken()
        )
    }

    /// Which events of the log are for this projection.
    fn taken(&self) -> String {
        let mut conditions = vec!["true".to_owned()];
        if let Some(types) = &self.checked.projection.event_types {
            let literals: Vec<_> = types.iter().map(|name| spi::literal(name)).collect();
            conditions
                .push(format!("e.event_type OPERATOR(pg_catalog.=) ANY (ARRAY[{}])", literals.join(", ")));
        }
        let skipped = &self.checked.projection.skipped;
        if !skipped.is_empty() {
            conditions.push(format!(
                "e.position OPERATOR(pg_catalog.<>) ALL (ARRAY[{}]::pg_catalog.int8[])",
                skipped.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
            ));
        }
        conditions.join(" AND ")
    }

    fn run(&mut self, sql: &str) -> Result<()> {
        let plan = spi::Plan::prepare(sql, &[])?;
        spi::query(&plan, &[], self.snapshot, Some(&mut self.scope), |_| Ok(()))?;
        self.events = self.events.max(self.scope.events_done());
        Ok(())
    }

    /// Gives a fold's filled table its key.
    fn add_keys(&self) -> Result<()> {
        for table in &self.to.tables {
            spi::command(&format!(
                "ALTER TABLE {} ADD PRIMARY KEY ({})",
                self.to.of(table),
                table.key_list()
            ))?;
        }
        Ok(())
    }

    /// In one piece, the step passes over the events after `up_to`: a condition on each row of the log would cost far more.
    fn fold_all(&mut self, up_to: Position) -> Result<()> {
        let cuts = parallel::cuts(self.catalog, self.checked)?;
        self.scope.set_last_position(up_to);
        for table in &self.to.tables {
            let sql = match &cuts[..] {
                [] => self.statements(table).create(&self.taken(), None),
                cuts => self.statements(table).create_in_parts(&self.wanted(0, up_to), cuts),
            };
            self.run(&sql)?;
        }
        self.scope.set_last_position(Position::MAX);
        Ok(())
    }

    /// Folds one row, the one whose key the literals are, from the positions up to `up_to`.
    pub fn key(&mut self, up_to: Position, literals: &[String]) -> Result<()> {
        identity::as_owner(self.checked.projection.owner, &self.to.settings, || {
            for table in &self.to.tables {
                let sql = self.statements(table).create(&self.wanted(0, up_to), Some(literals));
                self.run(&sql)?;
            }
            Ok(())
        })
    }

    fn statements<'t>(&'t self, table: &'t Table) -> FoldSql<'t> {
        FoldSql { checked: self.checked, to: self.to, table, share: self.share }
    }

    /// Folds on: many events in one statement, where their order within a key is all that matters.
    fn fold_on(&mut self, up_to: Position) -> Result<()> {
        if self.share.is_none()
            && (up_to - self.done <= FEW || !merge::may_update_all(self.catalog, self.to)?)
        {
            return self.fold_tail(up_to);
        }
        self.scope.set_events_done(self.events);
        for table in &self.to.tables {
            let sql = self.statements(table).upsert(&self.wanted(self.done, up_to));
            self.run(&sql)?;
        }
        Ok(())
    }

    /// Folds through the code that appends use: loads a row, steps, writes it.
    fn fold_tail(&mut self, up_to: Position) -> Result<()> {
        let model = match self.model.take() {
            Some(model) => model,
            None => Model::prepare(self.catalog, &self.checked.projection, self.to.schema.as_deref())?,
        };
        let mut window = Window::new(self.done);
        while window.after < up_to {
            let (end, count) = window.next(up_to, |after, end| self.wanted(after, end), self.snapshot)?;
            if count > 0 {
                memory::scratch(|| self.fold_window(&model, window.after, end))?;
            }
            self.events += count;
            window.after = end;
        }
        self.model = Some(model);
        Ok(())
    }

    fn fold_window(&mut self, model: &Model, after: Position, end: Position) -> Result<()> {
        let sql = format!(
            "SELECT e, e.stream_id FROM refold.event AS e WHERE {} ORDER BY e.position",
            self.wanted(after, end)
        );
        let load = spi::Plan::prepare(&sql, &[])?;
        let drafts = spi::query(&load, &[], self.snapshot, None, |rows| {
            (0..rows.len()).map(|row| draft(rows, row)).collect::<Result<Vec<_>>>()
        })?;
        let events: Vec<_> = drafts.iter().collect();
        let keys = model.keys(&events, &mut self.scope)?;
        model.apply(self.catalog, &events, keys.as_deref(), &mut self.scope)
    }

    fn call_per_event(&mut self, up_to: Position) -> Result<()> {
        self.scope.set_events_done(self.events);
        let mut after = self.done;
        while after < up_to {
            let end = up_to.min(after.saturating_add(self.window));
            let sql = format!(
                "SELECT pg_catalog.count(refold._event_step(q.e)) FROM (SELECT e FROM refold.event AS e WHERE {} \
                 ORDER BY e.position OFFSET 0) AS q",
                self.wanted(after, end)
            );
            self.run(&sql)?;
            after = end;
            if after < up_to && self.window < LARGEST_WINDOW {
                self.to.analyze()?;
                self.progress.done(self.events);
                self.progress.publish();
                self.window *= 10;
            }
        }
        Ok(())
    }

    /// Unless the projection is serial, its handler commutes across streams (I6), so it gets the streams one after the
    /// other: the rows of one are written once or twice, not once for each batch that has an event of it. All of the log
    /// in the order of its index on the streams, which may spare the sort; a part of it in the order that is sorted
    /// fastest.
    fn call_per_batch(&mut self, up_to: Position) -> Result<()> {
        self.scope.set_events_done(self.events);
        let order = match (self.checked.projection.serial, self.done) {
            (true, _) => "e.position",
            (false, 0) => "e.stream_id, e.position",
            (false, _) => "e.stream_id COLLATE pg_catalog.\"C\", e.position",
        };
        let call = format!("SELECT {}($1)", self.checked.handler.qualified);
        let call = spi::Plan::prepare(&call, &[self.catalog.event_array])?;
        let mut after = self.done;
        while after < up_to {
            // The handler's plans for the bulk are those for tables that have rows.
            let end = if after == 0 { up_to.min(LARGEST_BATCH) } else { up_to };
            // Only the columns are sorted: a value of a row type holds all that was stored out of line.
            let sql = format!(
                "SELECT pg_catalog.count(refold._event_step(ROW(q.*)::refold.event)) FROM (\
                   SELECT e.* FROM refold.event AS e WHERE {} ORDER BY {order} OFFSET 0) AS q",
                self.wanted(after, end)
            );
            let hand_over = spi::Plan::prepare(&sql, &[])?;
            let snapshot = self.snapshot;
            self.scope.in_batches(
                |scope| spi::query(&hand_over, &[], snapshot, Some(scope), |_| Ok(())),
                |scope, last| spi::execute(&call, &[Some(last)], Some(scope)).map(drop),
            )?;
            self.events = self.events.max(self.scope.events_done());
            if end < up_to {
                self.to.analyze()?;
                self.progress.publish();
            }
            self.progress.done(self.events);
            after = end;
        }
        Ok(())
    }
}

impl Waiting for Replay<'_> {
    fn attempt(&mut self, attempt: i32) {
        self.progress.attempts(attempt);
        self.progress.phase(Phase::WaitingForAppends);
    }

    fn catch_up(&mut self, up_to: Position) -> Result<()> {
        self.tail(up_to).map(drop)
    }
}

fn draft(rows: &spi::Rows<'_>, row: usize) -> Result<Draft> {
    let missing = || Error::damaged("the log holds a null");
    Ok(Draft {
        datum: rows.datum(row, 0).ok_or_else(missing)?,
        stream_id: rows.datum(row, 1).ok_or_else(missing)?,
    })
}
