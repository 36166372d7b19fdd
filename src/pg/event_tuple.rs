//! Values of the row type `refold.event`, made without SQL.

use super::catalog::Catalog;
use super::shim;
use crate::error::{Error, Result};
use pgrx::{FromDatum, IntoDatum, pg_sys};
use std::cell::Cell;
use uuid::Uuid;

/// Number of columns of `refold.event`.
const COLUMNS: usize = 9;

/// One event, in the order of the columns of `refold.event`. What is not known yet is `None`.
#[derive(Clone)]
pub struct Event {
    pub position: Option<i64>,
    pub stream_id: pg_sys::Datum,
    pub stream_version: i64,
    pub event_type: pg_sys::Datum,
    pub data: pg_sys::Datum,
    pub metadata: pg_sys::Datum,
    pub event_id: Uuid,
    pub recorded_at: pg_sys::Datum,
    pub horizon: Option<u64>,
}

impl Event {
    /// The event that has these columns, which none is NULL of; values that were packed are unpacked into the current memory.
    /// The stream's name is a copy there in any case: as a key it outlives the row, which goes with its BEFORE trigger.
    pub fn from_columns(columns: &[Option<pg_sys::Datum>]) -> Result<Self> {
        let column = |index: usize, name| {
            columns.get(index).copied().flatten().ok_or_else(|| Error::null_argument(name))
        };
        // SAFETY: these four columns are of types of variable length.
        let unpacked = |value: pg_sys::Datum| unsafe {
            pg_sys::Datum::from(pg_sys::pg_detoast_datum(value.cast_mut_ptr()))
        };
        // SAFETY: so is the stream's name.
        let copied = |value: pg_sys::Datum| unsafe {
            pg_sys::Datum::from(pg_sys::pg_detoast_datum_copy(value.cast_mut_ptr()))
        };
        // SAFETY: the column is a uuid.
        let event_id = unsafe { pgrx::Uuid::from_datum(column(6, "event_id")?, false) };
        let event_id = event_id.ok_or_else(|| Error::null_argument("event_id"))?;
        Ok(Self {
            position: Some(column(0, "position")?.value() as i64),
            stream_id: copied(column(1, "stream_id")?),
            stream_version: column(2, "stream_version")?.value() as i64,
            event_type: unpacked(column(3, "event_type")?),
            data: unpacked(column(4, "data")?),
            metadata: unpacked(column(5, "metadata")?),
            event_id: Uuid::from_bytes(*event_id.as_bytes()),
            recorded_at: column(7, "recorded_at")?,
            horizon: Some(column(8, "horizon")?.value() as u64),
        })
    }

    /// The stream's name and the event's type.
    pub fn names(&self) -> (Option<String>, Option<String>) {
        // SAFETY: both are texts.
        let text = |value| unsafe { String::from_datum(value, false) };
        (text(self.stream_id), text(self.event_type))
    }

    /// The columns as parameters of an INSERT.
    pub fn columns(&self) -> [Option<pg_sys::Datum>; COLUMNS] {
        [
            self.position.map(pg_sys::Datum::from),
            Some(self.stream_id),
            Some(pg_sys::Datum::from(self.stream_version)),
            Some(self.event_type),
            Some(self.data),
            Some(self.metadata),
            uuid_datum(self.event_id),
            Some(self.recorded_at),
            self.horizon.map(pg_sys::Datum::from),
        ]
    }
}

/// The types of [`Event::columns`].
pub const COLUMN_TYPES: [pg_sys::Oid; COLUMNS] = [
    pg_sys::INT8OID,
    pg_sys::TEXTOID,
    pg_sys::INT8OID,
    pg_sys::TEXTOID,
    pg_sys::JSONBOID,
    pg_sys::JSONBOID,
    pg_sys::UUIDOID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::XID8OID,
];

/// A uuid as a datum.
pub fn uuid_datum(id: Uuid) -> Option<pg_sys::Datum> {
    pgrx::Uuid::from_bytes(id.into_bytes()).into_datum()
}

thread_local! {
    static DESCRIPTOR: Cell<Option<(pg_sys::Oid, pg_sys::TupleDesc)>> = const { Cell::new(None) };
}

/// The descriptor of `refold.event`, copied once into memory that lasts as long as the backend.
pub fn descriptor(catalog: &Catalog) -> pg_sys::TupleDesc {
    if let Some((oid, descriptor)) = DESCRIPTOR.get()
        && oid == catalog.event_type
    {
        return descriptor;
    }
    // SAFETY: the copy is made in TopMemoryContext and never freed; the table's definition is fixed by the extension.
    let descriptor = unsafe {
        let caller = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let copy = pg_sys::lookup_rowtype_tupdesc_copy(catalog.event_type, -1);
        pg_sys::MemoryContextSwitchTo(caller);
        copy
    };
    DESCRIPTOR.set(Some((catalog.event_type, descriptor)));
    descriptor
}

/// The event as a value of type `refold.event`, in the current memory.
pub fn form(catalog: &Catalog, event: &Event) -> pg_sys::Datum {
    let columns = event.columns();
    let mut values = columns.map(|column| column.unwrap_or(pg_sys::Datum::from(0)));
    let mut nulls = columns.map(|column| column.is_none());
    let descriptor = descriptor(catalog);
    // SAFETY: as many values and nulls as the descriptor has columns, of its types.
    unsafe {
        let tuple = pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}

/// A one-dimensional `refold.event[]`.
pub fn array(catalog: &Catalog, events: &[pg_sys::Datum]) -> pg_sys::Datum {
    let mut elements = events.to_vec();
    // SAFETY: the elements are composite values: of variable length, by reference, aligned as double.
    let array = unsafe {
        pg_sys::construct_array(
            elements.as_mut_ptr(),
            elements.len() as i32,
            catalog.event_type,
            -1,
            false,
            pg_sys::TYPALIGN_DOUBLE as std::ffi::c_char,
        )
    };
    pg_sys::Datum::from(array)
}

/// Bytes of a variable-length value before compression.
pub fn raw_size(value: pg_sys::Datum) -> usize {
    // SAFETY: the caller's value is a varlena.
    unsafe { pg_sys::toast_raw_datum_size(value) }
}

/// Whether two values of a type have the same image.
pub fn same_image(value_type: pg_sys::Oid, left: pg_sys::Datum, right: pg_sys::Datum) -> bool {
    let (mut length, mut by_value) = (0, false);
    // SAFETY: both are values of that type.
    unsafe {
        pg_sys::get_typlenbyval(value_type, &raw mut length, &raw mut by_value);
        shim::datumIsEqual(left, right, by_value, length.into())
    }
}
