//! Parsing the array that `append_events` takes; plain Rust.

use crate::error::{Error, Result};
use crate::names::MAX_BATCH;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use uuid::Uuid;

/// One element of the array; data and metadata stay text, so that no number loses a digit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Element<'a> {
    #[serde(rename = "type")]
    pub event_type: String,
    #[serde(borrow)]
    pub data: &'a RawValue,
    #[serde(borrow, default)]
    pub metadata: Option<&'a RawValue>,
    #[serde(default)]
    pub event_id: Option<Uuid>,
}

/// Parses `[{"type", "data", "metadata"?, "event_id"?}, ...]`; null for what may be left out leaves it out. Anything
/// else is 22023 with the path to the fault, an empty array too; more than [`MAX_BATCH`] elements are 54000. Calls
/// `between` again and again: parsing a large text takes a while.
pub fn parse(text: &str, between: impl Fn()) -> Result<Vec<Element<'_>>> {
    let elements = serde_json::Deserializer::from_str(text)
        .deserialize_seq(Elements(&between))
        .map_err(|_| malformed("events", "expected an array of objects"))?;
    if elements.is_empty() {
        return Err(Error::bad_value("events must not be empty"));
    }
    if elements.len() > MAX_BATCH {
        return Err(Error::over_limit("events", "elements", elements.len(), MAX_BATCH));
    }
    let parsed = elements.into_iter().enumerate().map(|(index, element)| {
        between();
        parse_element(index, element.get())
    });
    parsed.collect()
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

fn parse_element(index: usize, text: &str) -> Result<Element<'_>> {
    // serde takes an array for a struct, field by field.
    if !text.starts_with('{') {
        return Err(malformed(&format!("events[{index}]"), "expected an object"));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut reader).map_err(|fault| {
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
        match parse(text, || {}) {
            Err(Error::Own(report)) => report.detail.unwrap_or(report.message),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn keeps_numbers_as_written() {
        let elements =
            parse(r#"[{"type": "t", "data": {"n": 1.10, "m": 123456789012345678901234567890}}]"#, || {});
        let data = elements.map(|elements| elements[0].data.get().to_owned());
        assert_eq!(data.ok().as_deref(), Some(r#"{"n": 1.10, "m": 123456789012345678901234567890}"#));
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

    #[test]
    fn null_leaves_out() {
        let elements = parse(r#"[{"type": "t", "data": null, "metadata": null, "event_id": null}]"#, || {});
        let left_out = elements.map(|elements| {
            let element = &elements[0];
            element.data.get() == "null" && element.metadata.is_none() && element.event_id.is_none()
        });
        assert_eq!(left_out.ok(), Some(true));
    }
}
