//! `append_event` and `append_events`.

use crate::error::{Error, Result};
use crate::log::append::{Appended, NewEvent, append};
use crate::log::batch;
use crate::names::{EventType, ExpectedVersion, MAX_PAYLOAD, StreamId};
use crate::pg::call::{Call, positioned, sql_function};
use crate::pg::{event_tuple, jsonb, process};
use crate::projection::admission::{Admission, refuse_in_handler};
use crate::projection::installation::require_open;
use pgrx::pg_sys::Datum;
use uuid::Uuid;

sql_function!(refold_append_event, pg_finfo_refold_append_event, append_event);
sql_function!(refold_append_events, pg_finfo_refold_append_events, append_events);

fn append_event(call: &Call) -> Result<Option<Datum>> {
    refuse_in_handler("append events")?;
    require_open()?;
    let stream = StreamId::new(call.get(0))?;
    let event = NewEvent {
        event_type: EventType::new(call.get(1))?,
        data: payload("data", call.datum(2))?,
        metadata: payload("metadata", call.datum(3))?,
        event_id: call.get::<pgrx::Uuid>(5).map(|id| Uuid::from_bytes(*id.as_bytes())),
    };
    let expected = ExpectedVersion::new(call.get(4))?;
    answer(append(&stream, vec![event], expected, &mut Admission::default())?)
}

fn append_events(call: &Call) -> Result<Option<Datum>> {
    refuse_in_handler("append events")?;
    require_open()?;
    let stream = StreamId::new(call.get(0))?;
    let array = call.datum(1).ok_or_else(|| Error::null_argument("events"))?;
    let expected = ExpectedVersion::new(call.get(2))?;
    let no_metadata = jsonb::from_text("{}");
    let events = batch::read(array)?
        .into_iter()
        .enumerate()
        .map(|(index, element)| {
            process::check_interrupts();
            let at = |name| move |error: Error| error.at(&batch::place(index, name));
            Ok(NewEvent {
                event_type: EventType::new(Some(element.event_type.to_owned())).map_err(at("type"))?,
                data: payload("data", Some(element.data)).map_err(at("data"))?,
                metadata: payload("metadata", Some(element.metadata.unwrap_or(no_metadata)))
                    .map_err(at("metadata"))?,
                event_id: element.event_id,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    answer(append(&stream, events, expected, &mut Admission::default())?)
}

fn payload(name: &str, value: Option<Datum>) -> Result<Datum> {
    let value = value.ok_or_else(|| Error::null_argument(name))?;
    let size = event_tuple::raw_size(value);
    if size > MAX_PAYLOAD {
        return Err(Error::over_limit(name, "bytes", size, MAX_PAYLOAD));
    }
    Ok(value)
}

fn answer(appended: Appended) -> Result<Option<Datum>> {
    Ok(Some(positioned(appended.stream_version, appended.position)))
}
