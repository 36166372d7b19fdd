//! Applying events to one projection's tables, the live ones or a rebuild's copies.

use super::fold::Fold;
use super::handler::Handler;
use super::keys::{Key, KeyFunction};
use super::registry::{Kind, Projection};
use super::table::Table;
use crate::error::{Error, Result};
use crate::log::append::Draft;
use crate::pg::catalog::Catalog;
use crate::pg::event_tuple;
use crate::pg::shim::Scope;

/// How events become writes.
enum Writer {
    Fold {
        keys: KeyFunction,
        fold: Box<Fold>,
    },
    /// One call for each event.
    Event(Handler),
    /// One call for all.
    Batch(Handler),
}

/// A projection, ready to be applied to one set of tables.
pub struct Model(Writer);

impl Model {
    /// Prepares the statements; called as the projection's owner. `copy` is the schema of a rebuild's copies, for a
    /// fold; handlers that write for themselves are led there by the search_path.
    pub fn prepare(catalog: &Catalog, projection: &Projection, copy: Option<&str>) -> Result<Self> {
        let handler = projection.function(catalog, projection.handler)?;
        if copy.is_none() && projection.kind != Kind::Fold {
            super::table::require_found_by_name(catalog, &projection.tables)?;
        }
        Ok(Self(match projection.kind {
            Kind::PerEvent => Writer::Event(Handler::prepare(&handler, &[catalog.event_type])?),
            Kind::PerBatch => Writer::Batch(Handler::prepare(&handler, &[catalog.event_array])?),
            Kind::Fold => {
                let relation = projection.tables.first().copied();
                let relation = relation.ok_or_else(|| {
                    Error::damaged("a fold without a table").detail(projection.name.clone())
                })?;
                let table = Table::read(catalog, relation)?;
                let key = projection.key.map(|key| projection.function(catalog, key)).transpose()?;
                let keys = KeyFunction::prepare(
                    catalog,
                    key.map(|function| (function.qualified, function.columns)),
                )?;
                let copy = copy.map(|schema| format!("{schema}.{}", table.name));
                let fold = Box::new(Fold::prepare(catalog, &handler, &table, copy.as_deref(), &keys.types)?);
                Writer::Fold { keys, fold }
            }
        }))
    }

    /// The keys of the events, for a fold. Called as the projection's owner.
    pub fn keys(&self, events: &[&Draft], scope: &mut Scope) -> Result<Option<Vec<Option<Key>>>> {
        match &self.0 {
            Writer::Fold { keys, .. } => keys.compute(events, scope).map(Some),
            Writer::Event(_) | Writer::Batch(_) => Ok(None),
        }
    }

    /// Applies the events, in order. Called as the projection's owner; `keys` as [`Model::keys`] gave them.
    pub fn apply(
        &self,
        catalog: &Catalog,
        events: &[&Draft],
        keys: Option<&[Option<Key>]>,
        scope: &mut Scope,
    ) -> Result<()> {
        match &self.0 {
            Writer::Fold { keys: function, fold } => {
                fold.apply(function, events, keys.unwrap_or_default(), scope)
            }
            Writer::Event(call) => {
                for event in events {
                    scope.set_event(Some(event.datum));
                    call.call(&[Some(event.datum)], scope)?;
                }
                scope.set_event(None);
                Ok(())
            }
            Writer::Batch(call) => {
                let datums: Vec<_> = events.iter().map(|event| event.datum).collect();
                call.call(&[Some(event_tuple::array(catalog, &datums))], scope)?;
                Ok(())
            }
        }
    }
}

impl Projection {
    /// The model over the live tables, which the caller has locked. Called as the projection's owner.
    pub fn live_model(&self, catalog: &Catalog) -> Result<&Model> {
        if let Some(model) = self.live.get() {
            return Ok(model);
        }
        let model = Model::prepare(catalog, self, None)?;
        Ok(self.live.get_or_init(|| model))
    }
}
