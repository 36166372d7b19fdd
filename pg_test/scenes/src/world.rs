//! The world of a scene: a log, one projection of some kind, and an oracle that needs no refold.

use anyhow::{Result, ensure};

use crate::session::Stage;

/// The kinds of handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Over several streams.
    Fold,
    /// Reads other rows than it writes.
    PerEvent,
    PerBatch,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Fold, Self::PerEvent, Self::PerBatch];

    pub fn name(self) -> &'static str {
        match self {
            Self::Fold => "fold",
            Self::PerEvent => "per event",
            Self::PerBatch => "per batch",
        }
    }

    /// Makes a database ready for scenes of this kind.
    pub fn setup(self) -> String {
        let own = match self {
            Self::Fold => include_str!("../sql/fold.sql"),
            Self::PerEvent => include_str!("../sql/per_event.sql"),
            Self::PerBatch => include_str!("../sql/per_batch.sql"),
        };
        [include_str!("../sql/common.sql"), own, include_str!("../sql/oracle.sql")].concat()
    }

    fn arguments(self) -> &'static str {
        match self {
            Self::Fold => "model, refold.event",
            Self::PerEvent => "refold.event",
            Self::PerBatch => "refold.event[]",
        }
    }

    /// Creates the projection, with its first handler.
    pub fn create(self) -> String {
        let rest = match self {
            Self::Fold => "key => 'key_of(refold.event)'",
            Self::PerEvent | Self::PerBatch => "tables => '{model}'",
        };
        format!("SELECT refold.create_projection('model', 'handle_1({})', {rest})", self.arguments())
    }

    /// The signature of the projection's second handler.
    pub fn new_handler(self) -> String {
        format!("handle_2({})", self.arguments())
    }
}

/// An event's data. The amounts differ, so that a model tells which events it has.
fn data(item: &str, key: &str) -> String {
    let amount = 1 + item.bytes().map(usize::from).sum::<usize>() % 13;
    format!(r#"{{"item": "{item}", "key": "{key}", "amount": {amount}}}"#)
}

/// Appends an event to a stream.
pub fn append(stream: &str, item: &str, key: &str) -> String {
    format!(
        "SELECT stream_version, position FROM refold.append_event('{stream}', 'added', '{}')",
        data(item, key)
    )
}

/// Appends events to a stream in one call: items and keys.
pub fn append_batch(stream: &str, events: &[(&str, &str)]) -> String {
    let events: Vec<_> = events
        .iter()
        .map(|(item, key)| format!(r#"{{"type": "added", "data": {}}}"#, data(item, key)))
        .collect();
    format!(
        "SELECT stream_version, position FROM refold.append_events('{stream}', '[{}]')",
        events.join(", ")
    )
}

/// Empties the log and the model, and leaves no projection.
pub const RESET: &str =
    concat!("SELECT refold.drop_projection(name) FROM refold.projection;", include_str!("../sql/reset.sql"));
/// The same, but leaves a projection with its first handler.
pub const RESET_TO_FIRST_HANDLER: &str = concat!(
    "SELECT refold.drop_projection(name) FROM refold.projection WHERE handler_signature LIKE '%handle\\_2(%';",
    include_str!("../sql/reset.sql")
);
pub const VERIFY: &str = "SELECT * FROM refold.verify_projection('model')";
pub const FAULTS: &str = "TABLE faults";

pub fn has_projection(stage: &mut Stage) -> Result<bool> {
    Ok(!stage.look("TABLE projection")?.is_empty())
}

/// At the end of a scene: the log has exactly these items, the model is their fold, and refold agrees.
pub fn judge(stage: &mut Stage, items: &[String]) -> Result<()> {
    let faults = stage.look(FAULTS)?;
    ensure!(faults.is_empty(), "the model is not the fold of the log: {}", faults.told());
    let log = stage.look("SELECT item FROM log ORDER BY item")?.rows().concat();
    let mut items = items.to_vec();
    items.sort();
    ensure!(log == items, "the log has {log:?} instead of {items:?}");
    if has_projection(stage)? {
        let differences = stage.look(VERIFY)?;
        ensure!(differences.is_empty(), "verify_projection: {}", differences.told());
    }
    Ok(())
}
