//! The keys of a fold: which row an event belongs to, and the locks that order what feeds one row (I6).

use super::registry::{Kind, Projection};
use crate::error::{Error, Result};
use crate::log::append::{Draft, Drafts};
use crate::pg::call::value;
use crate::pg::catalog::Catalog;
use crate::pg::event_tuple;
use crate::pg::shim::Scope;
use crate::pg::{identity, locks, spi};
use pgrx::pg_sys;
use std::cell::Cell;

/// The values of a fold's key columns for one event.
#[derive(Clone)]
pub struct Key {
    pub values: Vec<pg_sys::Datum>,
    /// Equal keys have equal hashes.
    hash: u64,
}

impl Key {
    /// A stream's name as a key: one stream's appends are ordered by its own lock.
    fn of_stream(stream_id: pg_sys::Datum) -> Self {
        Self { values: vec![stream_id], hash: 0 }
    }

    /// A key with the hash that `hash_record_extended` gives for the row of its values.
    pub fn new(values: Vec<pg_sys::Datum>, hash: u64) -> Self {
        Self { values, hash }
    }
}

/// The types of a projection's key, and how to compute it.
pub struct KeyFunction {
    pub types: Vec<pg_sys::Oid>,
    /// `None`: the key is the stream's name.
    plan: Option<spi::Plan>,
}

impl KeyFunction {
    /// For the given function, called by its qualified name, with result columns of these types.
    pub fn prepare(catalog: &Catalog, function: Option<(String, Vec<pg_sys::Oid>)>) -> Result<Self> {
        let Some((function, types)) = function else {
            return Ok(Self { types: vec![pg_sys::TEXTOID], plan: None });
        };
        let sql =
            format!("SELECT pg_catalog.hash_record_extended(ROW(k.*), 0), k.* FROM {function}($1) AS k");
        Ok(Self { types, plan: Some(spi::Plan::prepare(&sql, &[catalog.event_type])?) })
    }

    /// Each event's key, `None` where it is NULL: the event is not for this projection. Called as the owner.
    pub fn compute(&self, events: &[&Draft], scope: &mut Scope) -> Result<Vec<Option<Key>>> {
        let Some(plan) = &self.plan else {
            return Ok(events.iter().map(|event| Some(Key::of_stream(event.stream_id))).collect());
        };
        events
            .iter()
            .map(|event| {
                scope.set_event(Some(event.datum));
                let args = [Some(event.datum)];
                let key = spi::query(plan, &args, spi::Snapshot::Command, Some(scope), |rows| {
                    let values = (1..=self.types.len()).map(|column| rows.datum(0, column));
                    let values = values.collect::<Option<Vec<_>>>();
                    Ok(rows
                        .get::<i64>(0, 0)
                        .zip(values)
                        .map(|(hash, values)| Key { values, hash: hash as u64 }))
                })?;
                scope.set_event(None);
                Ok(key)
            })
            .collect()
    }

    /// Whether two keys are alike to the last bit.
    pub fn same(&self, left: &Key, right: &Key) -> bool {
        left.hash == right.hash
            && self
                .types
                .iter()
                .zip(left.values.iter().zip(&right.values))
                .all(|(&oid, (&left, &right))| event_tuple::same_image(oid, left, right))
    }
}

/// The keys of those of an append's events that one projection takes; nothing for a projection without keys.
pub fn of_drafts(
    catalog: &Catalog,
    projection: &Projection,
    drafts: &Drafts,
    taken: &[usize],
) -> Result<Option<Vec<Option<Key>>>> {
    if projection.kind != Kind::Fold {
        return Ok(None);
    }
    if projection.key.is_none() {
        let key = drafts.stream_id().map(Key::of_stream);
        return Ok(Some(vec![key; taken.len()]));
    }
    let formed = drafts.form();
    let events: Vec<_> = taken.iter().map(|&index| &formed[index]).collect();
    let mut scope = Scope::new(&projection.c_name, event_tuple::descriptor(catalog));
    projection.as_owner(|| projection.live_model(catalog)?.keys(&events, &mut scope))
}

/// Distinct fold-key locks of one projection: a batch with more keys than that makes some keys wait for each other
/// instead of filling the server's lock table.
const KEY_LOCKS: u64 = 1024;

/// The locks that one append needs besides its stream's, in the order in which every append takes them.
#[derive(Default)]
pub struct KeyLocks {
    serial: Vec<i32>,
    keys: Vec<u64>,
}

impl KeyLocks {
    pub fn add(&mut self, projection: &Projection, keys: Option<&[Option<Key>]>) {
        if projection.serial {
            self.serial.push(projection.id);
        } else if projection.key.is_some() {
            let seed = projection.id as u64;
            let hashes = keys.unwrap_or_default().iter().flatten();
            self.keys.extend(
                hashes.map(|key| (seed << 32) | (locks::hash(&key.hash.to_ne_bytes(), seed) % KEY_LOCKS)),
            );
        }
    }

    /// I6: waits for all of them; the positions are drawn after.
    pub fn take(mut self, catalog: &Catalog) -> Result<()> {
        if !self.serial.is_empty() {
            take_turns(catalog, &self.serial)?;
        }
        self.keys.sort_unstable();
        self.keys.dedup();
        for key in self.keys {
            locks::lock_key(locks::Domain::FoldKey, key);
        }
        Ok(())
    }
}

thread_local! {
    static TURN: spi::KeptPlan = const { Cell::new(None) };
}

/// A serial projection's appends take turns at its row: updating it waits for whoever has the turn, and in a
/// transaction whose snapshot is older than the last turn it is 40001, as any such update.
fn take_turns(catalog: &Catalog, projections: &[i32]) -> Result<()> {
    const SQL: &str = "UPDATE refold.serial_turn AS t SET turn = t.turn OPERATOR(pg_catalog.+) 1 \
        WHERE t.projection_id OPERATOR(pg_catalog.=) $1";
    identity::as_refold(catalog.owner, || {
        let plan = spi::kept(&TURN, catalog.event, || spi::Plan::prepare(SQL, &[pg_sys::INT4OID]))?;
        for &projection in projections {
            if spi::execute(plan, &[value(projection)], None)? != 1 {
                return Err(Error::retry(
                    "a serial projection was created after this transaction's snapshot",
                )
                .hint("Retry the transaction."));
            }
        }
        Ok(())
    })
}
