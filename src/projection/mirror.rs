//! The second model that appends keep up while a concurrent rebuild mirrors: its handler must not fail an append.

use super::apply::Model;
use super::keys::Key;
use super::registry::{Kind, Projection};
use crate::error::{Error, Result};
use crate::log::append::Draft;
use crate::pg::catalog::Catalog;
use crate::pg::failure::Failure;
use crate::pg::shim::Scope;
use crate::pg::{event_tuple, identity, locks, spi, subtransaction};
use pgrx::pg_sys;
use std::cell::OnceCell;

/// A handler and the shadows that it writes.
pub struct Mirror {
    pub job: i64,
    /// The projection as it would be with this handler; a handler that writes for itself is led to the shadows.
    pub projection: Projection,
    /// The shadows' schema, quoted.
    pub schema: String,
    /// In the order of the live tables.
    pub shadows: Vec<pg_sys::Oid>,
    model: OnceCell<Model>,
}

impl Mirror {
    pub fn new(
        live: &Projection,
        job: i64,
        handler: pg_sys::Oid,
        shadows: Vec<pg_sys::Oid>,
        schema: String,
    ) -> Self {
        let projection = Projection { handler, ..live.like() };
        let projection = Projection { settings: led_to(&schema, &projection), ..projection };
        Self { job, projection, schema, shadows, model: OnceCell::new() }
    }

    /// Applies the events to the shadows. If that fails, everything it did is undone and a row in
    /// `refold.mirror_failure` forbids the swap, when the append commits.
    pub fn apply(
        &self,
        catalog: &Catalog,
        live: &Projection,
        events: &[&Draft],
        keys: Option<&[Option<Key>]>,
    ) -> Result<()> {
        let mut scope = Scope::new(&live.c_name, event_tuple::descriptor(catalog));
        scope.guard(&live.tables);
        let emptied = || live.tables.iter().any(|&table| locks::holds(table, locks::Mode::AccessExclusive));
        let emptied_before = emptied();
        let applied = subtransaction::attempt(|| {
            self.projection.as_owner(|| self.model(catalog)?.apply(catalog, events, keys, &mut scope))?;
            // TRUNCATE and its like are no accesses that the executor checks.
            if emptied() && !emptied_before {
                return Err(Error::wrong_state("the new handler has locked a live table")
                    .hint("Name the projection's tables without a schema in the handler."));
            }
            Ok(())
        })?;
        match applied {
            Ok(()) => Ok(()),
            Err(error) if ends_append(&error) => Err(error),
            Err(error) => self.record(catalog, events, &Failure::of(&error)),
        }
    }

    fn model(&self, catalog: &Catalog) -> Result<&Model> {
        if let Some(model) = self.model.get() {
            return Ok(model);
        }
        let model = Model::prepare(catalog, &self.projection, Some(&self.schema))?;
        Ok(self.model.get_or_init(|| model))
    }

    fn record(&self, catalog: &Catalog, events: &[&Draft], failure: &Failure) -> Result<()> {
        const SQL: &str = "INSERT INTO refold.mirror_failure (job_id, position, stream_id, event_type, sqlstate, message, \
              detail) \
            SELECT $1, (e).position, (e).stream_id, (e).event_type, $3, $4, $5 FROM (SELECT $2) AS q (e)";
        let Some(first) = events.first() else { return Ok(()) };
        let args = [
            spi::arg(self.job),
            (catalog.event_type, Some(first.datum)),
            spi::arg(failure.sqlstate.as_str()),
            spi::arg(failure.message.as_str()),
            spi::arg(failure.detail.as_deref()),
        ];
        identity::as_refold_pinned(catalog.owner, || {
            spi::query_once(SQL, &args, spi::Snapshot::Command, |_| Ok(()))
        })
    }
}

/// The settings of a handler that is replayed into copies in this schema: one that writes for itself finds them first on
/// the search_path. A fold writes nothing, and its `::T` must go on meaning the live table's row type.
pub fn led_to(schema: &str, projection: &Projection) -> identity::Settings {
    let mut settings = projection.settings.clone();
    if projection.kind != Kind::Fold {
        settings.search_path = format!("{schema}, {}", settings.search_path);
    }
    settings
}

/// Whether an error is none of the handler's: the statement was cancelled or the session ended, or the client should
/// retry its transaction (a conflict over a shadow's row, which its live row has too).
fn ends_append(error: &Error) -> bool {
    let code = Failure::of(error).sqlstate;
    code == "57014" || code.starts_with("57P") || code == "40001" || code == "40P01"
}
