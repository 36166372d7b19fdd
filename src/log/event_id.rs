//! Repeated appends: an `event_id` that the log already holds.

use super::append::{Appended, NewEvent};
use crate::error::{Error, Result};
use crate::names::StreamId;
use crate::pg::catalog::Catalog;
use crate::pg::{call, event_tuple, identity, snapshot, spi};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::Cell;
use std::collections::HashSet;
use uuid::Uuid;

const SQL: &str = "SELECT e.stream_version, e.position, e.stream_id OPERATOR(pg_catalog.=) $2 \
    AND e.event_type OPERATOR(pg_catalog.=) $3 AND e.data OPERATOR(pg_catalog.=) $4 \
    FROM refold.event AS e WHERE e.event_id OPERATOR(pg_catalog.=) $1";

thread_local! {
    static PLAN: spi::KeptPlan = const { Cell::new(None) };
}

struct Known {
    appended: Appended,
    same: bool,
}

fn find(
    catalog: &Catalog,
    stream: &StreamId,
    event: &NewEvent,
    id: Uuid,
    snapshot: spi::Snapshot,
) -> Result<Option<Known>> {
    let plan = spi::kept(&PLAN, catalog.event, || {
        spi::Plan::prepare(SQL, &[pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::JSONBOID])
    })?;
    let args = [
        event_tuple::uuid_datum(id),
        call::value(stream.as_str()),
        call::value(event.event_type.as_str()),
        Some(event.data),
    ];
    spi::query(plan, &args, snapshot, None, |rows| {
        if rows.len() == 0 {
            return Ok(None);
        }
        let appended = Appended { stream_version: rows.need(0, 0)?, position: rows.need(0, 1)? };
        Ok(Some(Known { appended, same: rows.need(0, 2)? }))
    })
}

fn conflict(id: Uuid, detail: &str) -> Error {
    Error::new(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, format!("event_id \"{id}\" is taken"))
        .detail(detail)
        .hint("A repeated append must give the same stream, types, data and order as the first.")
}

fn require_distinct(events: &[NewEvent]) -> Result<()> {
    let mut seen = HashSet::new();
    match events.iter().filter_map(|event| event.event_id).find(|&id| !seen.insert(id)) {
        None => Ok(()),
        Some(id) => Err(conflict(id, "Two of the events have this id.")),
    }
}

/// What an earlier append of the same events returned, or nothing if none of their ids is known. 23505 where an id is
/// known with other content, or where only some of the events are.
pub fn find_repeated(catalog: &Catalog, stream: &StreamId, events: &[NewEvent]) -> Result<Option<Appended>> {
    if events.iter().all(|event| event.event_id.is_none()) {
        return Ok(None);
    }
    require_distinct(events)?;
    identity::as_refold(catalog.owner, || look_up(catalog, stream, events))
}

fn look_up(catalog: &Catalog, stream: &StreamId, events: &[NewEvent]) -> Result<Option<Appended>> {
    let mut known: Option<(Uuid, Appended)> = None;
    for (index, event) in events.iter().enumerate() {
        let found = match event.event_id {
            Some(id) => find(catalog, stream, event, id, spi::Snapshot::Latest)?.map(|found| (id, found)),
            None => None,
        };
        let Some((id, Known { appended, same })) = found else {
            match known {
                Some((id, _)) => {
                    return Err(conflict(id, "Some of the events are in the log, others are not."));
                }
                None => continue,
            }
        };
        if !same {
            return Err(conflict(
                id,
                "The log holds an event with this id and another stream, type or data.",
            ));
        }
        let follows = match known {
            Some((_, previous)) => appended.stream_version == previous.stream_version + 1,
            None => index == 0,
        };
        if !follows {
            return Err(conflict(id, "The log holds these events in another order, or only some of them."));
        }
        if snapshot::keeps_one_snapshot()
            && find(catalog, stream, event, id, spi::Snapshot::Command)?.is_none()
        {
            return Err(Error::retry(format!(
                "event_id \"{id}\" was appended after this transaction's snapshot"
            ))
            .hint("Retry the transaction."));
        }
        known = Some((id, appended));
    }
    Ok(known.map(|(_, appended)| appended))
}
