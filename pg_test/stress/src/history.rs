//! What happened when: rebuilds and other interventions, and the events around a wrong row.

use anyhow::Result;
use postgres::NoTls;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::oracle::Model;
use crate::session::explain;
use crate::shared::{Shared, lock};

/// Lines of each kind that a failing run prints.
const LONGEST: usize = 60;
/// How far around the key's events interventions are told.
const MARGIN: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
struct Happened {
    from: SystemTime,
    to: SystemTime,
    text: String,
}

/// Everything beside appends, by the clock that the server has, too.
#[derive(Debug, Default)]
pub struct Timeline(Mutex<Vec<Happened>>);

impl Timeline {
    pub fn add(&self, from: SystemTime, text: String) {
        lock(&self.0).push(Happened { from, to: SystemTime::now(), text });
    }

    /// What overlaps the time between, in order.
    pub fn between(&self, from: SystemTime, to: SystemTime) -> Vec<String> {
        let overlaps = |happened: &&Happened| happened.from <= to && happened.to >= from;
        let mut found: Vec<_> = lock(&self.0).iter().filter(overlaps).cloned().collect();
        found.sort_by_key(|happened| happened.from);
        let surplus = found.len().saturating_sub(LONGEST);
        found.drain(..surplus);
        found
            .iter()
            .map(|happened| format!("{} - {} {}", clock(happened.from), clock(happened.to), happened.text))
            .collect()
    }
}

/// The time of day, UTC, to the microsecond.
pub fn clock(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, micros) = (since.as_secs() % 86_400, since.subsec_micros());
    format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The events that concern a key, as lines, and what went on around them.
pub fn of_key(shared: &Shared, model: &Model, key: &str) -> Result<String> {
    let mut client = shared.config.connect(NoTls).map_err(explain)?;
    let sql = format!(
        "SELECT r.recorded_at, concat_ws('  ', r.position, 'xid ' || r.xmin, 'horizon ' || r.horizon,
                to_char(r.recorded_at AT TIME ZONE 'UTC', 'HH24:MI:SS.US'), r.stream_id || '@' || r.stream_version,
                r.event_type, r.data, 'tx ' || (r.metadata->>'tx'))
         FROM refold.event r
         WHERE r.position IN (SELECT position FROM event_log e WHERE {})
         ORDER BY r.position DESC LIMIT {LONGEST}",
        model.concerns
    );
    let mut rows = client.query(&sql, &[&key]).map_err(explain)?;
    rows.reverse();
    let mut text = format!("\n  The last events of {key} (position, xid, time):");
    let mut span: Option<(SystemTime, SystemTime)> = None;
    for row in &rows {
        let time: SystemTime = row.try_get(0)?;
        span = Some(span.map_or((time, time), |(from, to)| (from.min(time), to.max(time))));
        text.push_str(&format!("\n    {}", row.try_get::<_, String>(1)?));
    }
    if let Some((from, to)) = span {
        text.push_str("\n  What went on then:");
        for line in shared.timeline.between(from - MARGIN, to + MARGIN) {
            text.push_str(&format!("\n    {line}"));
        }
    }
    Ok(text)
}
