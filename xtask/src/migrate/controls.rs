//! Faulty scripts: what they prove, and what they do, must be able to fail.

use anyhow::{Context, Result, ensure};

use super::script::Scripts;
use super::source::{Base, EVENTS, Place, WHOLE_LOG};
use crate::crash::explain;

pub struct Control {
    pub name: &'static str,
    /// In `_copy.sql` or `_begin.sql`, once.
    file: &'static str,
    from: &'static str,
    to: &'static str,
    must: Must,
}

enum Must {
    /// Into a new store and in one transaction: the script finds it, and nothing is left.
    Fail(&'static str, &'static str),
    /// The same into a store that is in use.
    FailToAppend(&'static str),
    /// It does not wait for a slow writer, whose event then comes too late.
    LoseTheOrder,
}

const SELECTED: &str = "m.data, m.metadata, m.event_id, m.recorded_at, pg_current_xact_id()";
const ORDERED: &str = "WHERE m.known_at IS NULL ORDER BY m.source_position;";
const NOT_AS_IT_SHOULD: &str = "is not in the log as it should be";

pub const ALL: [Control; 9] = [
    Control {
        name: "an event is left out",
        file: "_copy.sql",
        from: ORDERED,
        to: "WHERE m.known_at IS NULL AND m.source_position <> 40 ORDER BY m.source_position;",
        must: Must::Fail("23000", NOT_AS_IT_SHOULD),
    },
    Control {
        name: "another order",
        file: "_copy.sql",
        from: ORDERED,
        to: "WHERE m.known_at IS NULL ORDER BY m.stream_id, m.source_position;",
        must: Must::Fail("23000", "is not where it should be in the log"),
    },
    Control {
        name: "other data",
        file: "_copy.sql",
        from: SELECTED,
        to: "m.data || '{\"more\": 1}', m.metadata, m.event_id, m.recorded_at, pg_current_xact_id()",
        must: Must::Fail("23000", NOT_AS_IT_SHOULD),
    },
    Control {
        name: "other metadata",
        file: "_copy.sql",
        from: SELECTED,
        to: "m.data, m.metadata - 'user', m.event_id, m.recorded_at, pg_current_xact_id()",
        must: Must::Fail("23000", NOT_AS_IT_SHOULD),
    },
    Control {
        name: "other times",
        file: "_copy.sql",
        from: SELECTED,
        to: "m.data, m.metadata, m.event_id, now(), pg_current_xact_id()",
        must: Must::Fail("23000", NOT_AS_IT_SHOULD),
    },
    Control {
        name: "other versions",
        file: "_copy.sql",
        from: "SELECT m.stream_id, m.stream_version, m.event_type, m.data,",
        to: "SELECT m.stream_id, m.stream_version + 1, m.event_type, m.data,",
        must: Must::Fail("23000", NOT_AS_IT_SHOULD),
    },
    Control {
        name: "an event too many",
        file: "_copy.sql",
        from: "BEGIN;\nINSERT",
        to: "BEGIN;\nINSERT INTO refold.event (stream_id, stream_version, event_type, data, event_id, horizon)
             SELECT m.stream_id, 100, 'x', '{}', gen_random_uuid(), pg_current_xact_id() FROM migrating AS m LIMIT 1;\nINSERT",
        must: Must::Fail("23000", "instead of"),
    },
    Control {
        name: "appended in another order",
        file: "_copy.sql",
        from: "BETWEEN first AND last ORDER BY m.source_position",
        to: "BETWEEN first AND last ORDER BY m.source_position DESC",
        must: Must::FailToAppend("40001"),
    },
    Control {
        name: "without the wait for writers",
        file: "_begin.sql",
        from: "SELECT pg_temp.wait_for_writers() \\g /dev/null",
        to: "",
        must: Must::LoseTheOrder,
    },
];

impl Control {
    pub fn run(&self, base: &Base, scripts: &Scripts) -> Result<()> {
        let folder = tempfile::Builder::new().prefix("refold-control-").tempdir()?;
        let faulty = scripts.altered(folder.path(), self.file, self.from, self.to)?;
        base.with_copy(|place| match self.must {
            Must::Fail(code, text) => fails(base, place, &faulty, code, text),
            Must::FailToAppend(code) => {
                place.execute("SELECT refold.open_store()")?;
                fails(base, place, &faulty, code, "")
            }
            Must::LoseTheOrder => loses_the_order(base, place, scripts, &faulty),
        })
    }
}

fn fails(base: &Base, place: &Place, faulty: &Scripts, code: &str, text: &str) -> Result<()> {
    let refused = faulty.refuse(place, base.source, &[], code)?;
    ensure!(refused.text.contains(text), "it says {}", refused.text);
    let left = place.lines(WHOLE_LOG)?;
    ensure!(left.is_empty(), "{} events are left in the log", left.len());
    Ok(())
}

fn loses_the_order(base: &Base, place: &Place, scripts: &Scripts, faulty: &Scripts) -> Result<()> {
    let source = base.source;
    let mut slow = place.connect()?;
    slow.batch_execute("BEGIN").map_err(explain)?;
    slow.batch_execute(&source.append_one(&source.stream(901))).map_err(explain)?;
    place.execute(&source.append_one(&source.stream(911)))?;
    faulty.copy(place, source, &[], EVENTS + 1).context("it has waited")?;
    slow.batch_execute("COMMIT").map_err(explain)?;
    let refused = scripts.refuse(place, source, &[], "55000")?;
    ensure!(refused.text.contains("comes too late"), "it says {}", refused.text);
    Ok(())
}
