//! Parsing the array that `append_events` takes; plain Rust.

use crate::error::{Error, Result};
use crate::names::MAX_BATCH;
use serde::Deserialize;
use serde_json::value::RawValue;
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

/// Parses `[{"type", "data", "metadata"?, "event_id"?}, ...]`. Anything else is 22023 with the path to the fault, an
/// empty array too; more than [`MAX_BATCH`] elements are 54000.
pub fn parse(text: &str) -> Result<Vec<Element<'_>>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let elements: Vec<Element<'_>> = serde_path_to_error::deserialize(&mut reader).map_err(|fault| {
        let path = fault.path().to_string();
        let place = if path == "." { "events".to_owned() } else { format!("events{path}") };
        Error::bad_value("malformed events")
            .detail(format!("At {place}: {}.", without_place(&fault.into_inner())))
            .hint(r#"Give an array of objects: [{"type": "...", "data": ..., "metadata": ..., "event_id": "..."}], of which metadata and event_id may be left out."#)
    })?;
    if elements.is_empty() {
        return Err(Error::bad_value("events must not be empty"));
    }
    if elements.len() > MAX_BATCH {
        return Err(Error::over_limit("events", "elements", elements.len(), MAX_BATCH));
    }
    Ok(elements)
}

/// The fault without serde's line and column: the text was made from jsonb, so the user never saw it.
fn without_place(fault: &serde_json::Error) -> String {
    let text = fault.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        match parse(text) {
            Err(Error::Own(report)) => report.detail.unwrap_or(report.message),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn keeps_numbers_as_written() {
        let elements = parse(r#"[{"type": "t", "data": {"n": 1.10, "m": 123456789012345678901234567890}}]"#);
        let data = elements.map(|elements| elements[0].data.get().to_owned());
        assert_eq!(data.ok().as_deref(), Some(r#"{"n": 1.10, "m": 123456789012345678901234567890}"#));
    }

    #[test]
    fn names_the_fault() {
        assert_eq!(fault("[]"), "events must not be empty");
        assert!(fault("{}").starts_with("At events: invalid type: map"));
        assert!(
            fault(r#"[{"type": "t", "data": 1}, {"data": 1}]"#)
                .starts_with("At events[1]: missing field `type`")
        );
        assert!(fault(r#"[{"type": "t", "data": 1, "metadta": {}}]"#).contains("unknown field `metadta`"));
        assert!(fault(r#"[{"type": 1, "data": 1}]"#).starts_with("At events[0].type: invalid type"));
        assert!(fault(r#"[{"type": "t", "data": 1, "event_id": "x"}]"#).starts_with("At events[0].event_id"));
        assert!(fault("[7]").starts_with("At events[0]"));
    }
}
