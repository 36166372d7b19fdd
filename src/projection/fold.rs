//! Writing a fold's rows: load, call the handler, write what it returns.

use super::function::Function;
use super::handler::Handler;
use super::keys::{Key, KeyFunction};
use super::table::Table;
use crate::error::{Error, Result};
use crate::log::append::Draft;
use crate::pg::catalog::Catalog;
use crate::pg::model_row::Row;
use crate::pg::shim::Scope;
use crate::pg::{snapshot, spi};
use pgrx::{PgSqlErrorCode, pg_sys};

/// The statements of one fold on one table: the live one, or a rebuild's copy of it.
pub struct Fold {
    /// The table, where its rows may be loaded and updated without statements.
    direct: Option<pg_sys::Oid>,
    /// The live table's, whichever is written.
    row_type: pg_sys::Oid,
    /// Key, event: whether there is a row, and the state after the event.
    load_and_step: spi::Plan,
    /// State, event: the state after the event.
    step: Handler,
    /// Key, state.
    insert: spi::Plan,
    update: spi::Plan,
    /// Key.
    delete: spi::Plan,
    /// Key: one row if there is one.
    look_up: spi::Plan,
}

/// The stored row as a value of the live table's row type; a generated column is NULL in it.
pub fn state_of(table: &Table, alias: &str) -> String {
    let columns: Vec<_> = table
        .columns
        .iter()
        .map(|column| if column.generated { "NULL".to_owned() } else { format!("{alias}.{}", column.name) })
        .collect();
    format!("ROW({})::{}", columns.join(", "), table.qualified)
}

impl Fold {
    /// Prepares the statements for the live table, or for `copy`, a table with its columns and key.
    pub fn prepare(
        catalog: &Catalog,
        function: &Function,
        table: &Table,
        copy: Option<&str>,
        key_types: &[pg_sys::Oid],
    ) -> Result<Self> {
        let (handler, target) = (&function.qualified, copy.unwrap_or(&table.qualified));
        let relation = copy.map_or(Ok(table.relation), relation_named)?;
        let step = Handler::prepare(function, &[table.row_type, catalog.event_type])?;
        let keys = key_types.len();
        let by_key = table.on_key(|n, column| format!("t.{} {} ${}", column.name, column.equals, n + 1));
        let after = keys + 1;
        let state_column = |name: &str| format!("(${after}).{name}");
        let of_key =
            table.on_key(|n, column| format!("{} {} ${}", state_column(&column.name), column.equals, n + 1));
        let with = |last: &[pg_sys::Oid]| [key_types, last].concat();

        let load_and_step = format!(
            "SELECT q.s IS DISTINCT FROM NULL, {handler}(q.s, ${after}) FROM (SELECT (SELECT {state} FROM ONLY {target} \
             AS t WHERE {by_key}) AS s OFFSET 0) AS q",
            state = state_of(table, "t"),
        );
        let insert = format!(
            "INSERT INTO {target} ({columns}) SELECT {values} WHERE {of_key} \
             ON CONFLICT ({key}) DO NOTHING",
            columns = table.list(str::to_owned),
            values = table.list(state_column),
            key = table.key_list(),
        );
        let update = format!(
            "UPDATE ONLY {target} AS t SET {assignments} WHERE {by_key} AND {of_key}",
            assignments = table.assign(state_column),
        );
        Ok(Self {
            load_and_step: spi::Plan::prepare(&load_and_step, &with(&[catalog.event_type]))?,
            direct: step.is_direct().then_some(relation),
            row_type: table.row_type,
            step,
            insert: spi::Plan::prepare(&insert, &with(&[table.row_type]))?,
            update: spi::Plan::prepare(&update, &with(&[table.row_type]))?,
            delete: spi::Plan::prepare(&format!("DELETE FROM ONLY {target} AS t WHERE {by_key}"), key_types)?,
            look_up: spi::Plan::prepare(
                &format!("SELECT FROM ONLY {target} AS t WHERE {by_key}"),
                key_types,
            )?,
        })
    }

    /// Folds the events into their rows, in order; a run of events with one key loads and writes its row once.
    pub fn apply(
        &self,
        function: &KeyFunction,
        events: &[&Draft],
        keys: &[Option<Key>],
        scope: &mut Scope,
    ) -> Result<()> {
        scope.set_state_type(self.row_type);
        let mut rest =
            events.iter().zip(keys).filter_map(|(event, key)| Some((event, key.as_ref()?))).peekable();
        while let Some((first, key)) = rest.next() {
            let args: Vec<spi::Arg> = key.values.iter().copied().map(Some).collect();
            let mut row =
                self.direct.map(|relation| Row::new(relation, self.row_type, &function.types, &key.values));
            scope.set_event(Some(first.datum));
            let (exists, mut state) = self.begin(row.as_mut(), &args, first, scope)?;
            while let Some((next, _)) = rest.next_if(|(_, other)| function.same(key, other)) {
                scope.set_event(Some(next.datum));
                let after = self.step.call(&[state, Some(next.datum)], scope)?;
                // A row may be large and grow with each of the batch's events.
                spi::free_row(state);
                state = after;
            }
            let updated = match (row, state) {
                (Some(mut row), Some(state)) if exists => row.update(state, scope)?,
                _ => false,
            };
            if !updated {
                self.write(&args, exists, state, scope)?;
            }
            spi::free_row(state);
            scope.set_event(None);
        }
        Ok(())
    }

    /// Whether there is a row, and its state after the event.
    fn begin(
        &self,
        row: Option<&mut Row<'_>>,
        key: &[spi::Arg],
        event: &Draft,
        scope: &mut Scope,
    ) -> Result<(bool, spi::Arg)> {
        if let Some(row) = row
            && let Some(before) = row.load(scope)?
        {
            let after = self.step.call(&[before, Some(event.datum)], scope)?;
            spi::free_row(before);
            return Ok((before.is_some(), after));
        }
        let load = [key, &[Some(event.datum)]].concat();
        spi::query(&self.load_and_step, &load, spi::Snapshot::Command, Some(scope), |rows| {
            Ok((rows.need::<bool>(0, 0)?, rows.datum(0, 1)))
        })
    }

    fn write(&self, key: &[spi::Arg], exists: bool, state: spi::Arg, scope: &mut Scope) -> Result<()> {
        let with_state = [key, &[state]].concat();
        let written = match (exists, state) {
            (false, None) => return self.require_absent(key).map_err(|error| scope.raise(error)),
            (true, None) => spi::execute(&self.delete, key, Some(scope))?,
            (false, Some(_)) => spi::execute(&self.insert, &with_state, Some(scope))?,
            (true, Some(_)) => spi::execute(&self.update, &with_state, Some(scope))?,
        };
        if written == 1 {
            return Ok(());
        }
        let error = wrong_key(scope.projection());
        Err(scope.raise(error))
    }

    /// 40001 in a transaction that keeps one snapshot, if there is a row by now: where one is written, PostgreSQL
    /// says so itself.
    fn require_absent(&self, key: &[spi::Arg]) -> Result<()> {
        if !snapshot::keeps_one_snapshot()
            || spi::query(&self.look_up, key, spi::Snapshot::Latest, None, |rows| Ok(rows.len()))? == 0
        {
            return Ok(());
        }
        Err(Error::retry("the row of a projection was created after this transaction's snapshot")
            .hint("Retry the transaction."))
    }
}

fn relation_named(name: &str) -> Result<pg_sys::Oid> {
    const SQL: &str = "SELECT $1::pg_catalog.regclass::pg_catalog.oid";
    spi::query_once(SQL, &[spi::arg(name)], spi::Snapshot::Latest, |rows| rows.need(0, 0))
}

/// 39000: the handler returned a row that is not its event's.
pub fn wrong_key(projection: &str) -> Error {
    Error::new(
        PgSqlErrorCode::ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION,
        format!("handler of projection \"{projection}\" returned a row of another key"),
    )
    .detail("The primary key of the row that a fold returns must be the key of the event.")
    .hint("The key is the event's stream_id, or what the projection's key function returns for it.")
}
