//! The array that `append_events` takes.
//!
//! What is well-formed is read where it lies. What is not is read once more, as text, for the words that say what is wrong
//! and where.

use crate::error::{Error, Result};
use crate::names::MAX_BATCH;
use crate::pg::{jsonb, process};
use pgrx::pg_sys;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use uuid::Uuid;

/// One element of the array. The datums are jsonb, so that no number loses a digit.
pub struct Element<'a> {
    pub event_type: &'a str,
    pub data: pg_sys::Datum,
    pub metadata: Option<pg_sys::Datum>,
    pub event_id: Option<Uuid>,
}

/// Reads `[{"type", "data", "metadata"?, "event_id"?}, ...]`; null for what may be left out leaves it out. Anything
/// else is 22023 with the path to the fault, an empty array too; more than [`MAX_BATCH`] elements are 54000.
pub fn read<'a>(array: pg_sys::Datum) -> Result<Vec<Element<'a>>> {
    if let Some(elements) = well_formed(array)? {
        return Ok(elements);
    }
    let text = jsonb::to_text(array)?;
    Err(fault(&text, process::check_interrupts))
}

fn well_formed<'a>(array: pg_sys::Datum) -> Result<Option<Vec<Element<'a>>>> {
    let Some(raw) = jsonb::Elements::read(array, MAX_BATCH) else { return Ok(None) };
    let mut elements = Vec::with_capacity(raw.len());
    for element in raw.iter() {
        let jsonb::Element { event_type, data, metadata, event_id } = element?;
        let event_id = match event_id.map(Uuid::parse_str) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => return Ok(None),
        };
        elements.push(Element { event_type, data, metadata, event_id });
    }
    Ok((!elements.is_empty()).then_some(elements))
}

/// What an element must be, in serde's words.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only whether it can be read matters")]
struct Form<'a> {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(default)]
    event_id: Option<Uuid>,
}

/// What is wrong with the text of an array. Calls `between` again and again: parsing a large text takes a while.
fn fault(text: &str, between: impl Fn()) -> Error {
    match find_fault(text, between) {
        Err(error) => error,
        Ok(()) => malformed("events", "expected an array of objects"),
    }
}

fn find_fault(text: &str, between: impl Fn()) -> Result<()> {
    let elements = serde_json::Deserializer::from_str(text)
        .deserialize_seq(Elements(&between))
        .map_err(|_| malformed("events", "expected an array of objects"))?;
    if elements.is_empty() {
        return Err(Error::bad_value("events must not be empty"));
    }
    if elements.len() > MAX_BATCH {
        return Err(Error::over_limit("events", "elements", elements.len(), MAX_BATCH));
    }
    elements.into_iter().enumerate().try_for_each(|(index, element)| {
        between();
        check_element(index, element.get())
    })
}

/// Splits an array into the texts of its elements.
struct Elements<F>(F);

impl<'de, F: Fn()> Visitor<'de> for Elements<F> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> std::result::Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = sequence.next_element()? {
            (self.0)();
            elements.push(element);
        }
        Ok(elements)
    }
}

/// Where an element's field is, as error texts name it.
pub fn place(index: usize, field: &str) -> String {
    format!("events[{index}].{field}")
}

fn check_element(index: usize, text: &str) -> Result<()> {
    // serde takes an array for a struct, field by field.
    if !text.starts_with('{') {
        return Err(malformed(&format!("events[{index}]"), "expected an object"));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let read: std::result::Result<Form<'_>, _> = serde_path_to_error::deserialize(&mut reader);
    read.map(drop).map_err(|fault| {
        let path = fault.path().to_string();
        let place = if path == "." { format!("events[{index}]") } else { place(index, &path) };
        malformed(&place, &in_words_of_json(&fault.into_inner()))
    })
}

fn malformed(place: &str, fault: &str) -> Error {
    Error::bad_value("malformed events").detail(format!("At {place}: {fault}.")).hint(
        r#"Give an array of objects: [{"type": "...", "data": ..., "metadata": ..., "event_id": "..."}], of which metadata and event_id may be left out."#,
    )
}

/// serde's text without its words for Rust's types, and without line and column: the text was made from jsonb, so the
/// user never saw it.
fn in_words_of_json(fault: &serde_json::Error) -> String {
    let text = fault.to_string();
    let text = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
    text.replace("invalid type: map", "invalid type: object")
        .replace("invalid type: sequence", "invalid type: array")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        match super::fault(text, || {}) {
            Error::Own(report) => report.detail.unwrap_or(report.message),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn names_the_fault() {
        assert_eq!(fault("[]"), "events must not be empty");
        assert!(fault("{}").starts_with("At events: expected an array"));
        assert!(
            fault(r#"[{"type": "t", "data": 1}, {"data": 1}]"#)
                .starts_with("At events[1]: missing field `type`")
        );
        assert!(fault(r#"[{"type": "t", "data": 1, "metadta": {}}]"#).contains("unknown field `metadta`"));
        assert!(fault(r#"[{"type": 1, "data": 1}]"#).starts_with("At events[0].type: invalid type"));
        assert!(fault(r#"[{"type": "t", "data": 1, "event_id": "x"}]"#).starts_with("At events[0].event_id"));
        assert!(fault("[7]").starts_with("At events[0]: expected an object"));
        assert!(fault(r#"[["t", 1, null, null]]"#).starts_with("At events[0]: expected an object"));
        assert!(fault(r#"[{"type": {}, "data": 1}]"#).starts_with("At events[0].type: invalid type: object"));
    }
}
