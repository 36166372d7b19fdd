//! The probe only appends to a stream of its own, and tells how long an append waits when nothing but the gate, the
//! tables and the machine stand in its way. Beside it a watcher asks, while an append takes long, who that is.

use anyhow::Result;
use postgres::Row;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::appender::APPEND;
use crate::ledger::{Entry, Outcome, Written};
use crate::operation::Operation;
use crate::session::{APP, Failed, Fault, Role, Session};
use crate::shared::{Shared, lock};

const PAUSE: Duration = Duration::from_millis(10);
/// An append that takes longer is looked into.
const SUSPICIOUS: Duration = Duration::from_millis(15);
/// Between two looks, for which PostgreSQL has to stop all that locks.
const PULSE: Duration = Duration::from_millis(8);

/// Who stands in the way of $1, and of whoever does. Processes in an order that does not change while they wait.
const CHAIN: &str = "
    WITH RECURSIVE chain(pid, depth, path) AS (
        SELECT $1::int, 0, ARRAY[$1::int]
        UNION ALL
        SELECT b.pid, chain.depth + 1, path || b.pid
        FROM chain, unnest(pg_blocking_pids(chain.pid)) b(pid)
        WHERE chain.depth < 4 AND b.pid <> ALL (path)
    ),
    lock AS MATERIALIZED (
        SELECT pid, mode, granted, locktype, relation FROM pg_locks
        WHERE NOT granted OR (mode = 'ShareRowExclusiveLock' AND relation = 'refold.gate'::regclass)
    )
    SELECT chain.pid, min(depth) AS depth, coalesce(a.state, 'prepared') AS state,
           coalesce(a.wait_event_type || ' ' || a.wait_event, 'running') AS waits,
           left(regexp_replace(coalesce(a.query, ''), '\\s+', ' ', 'g'), 100) AS query,
           (SELECT string_agg(concat_ws(' ', l.mode, 'on', l.locktype, l.relation::regclass::text), ', ')
            FROM lock l WHERE l.pid = chain.pid AND NOT l.granted) AS wants,
           EXISTS (SELECT FROM lock l WHERE l.pid = chain.pid AND l.granted) AS has_gate
    FROM chain LEFT JOIN pg_stat_activity a ON a.pid = chain.pid
    GROUP BY chain.pid, a.state, a.wait_event_type, a.wait_event, a.query
    ORDER BY depth, has_gate DESC, chain.pid";
/// More of a chain than this says nothing new.
const LONGEST_CHAIN: usize = 6;

/// What a look at a waiting append has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// How long it had waited.
    pub after: Duration,
    /// One line a process, the probe's first.
    pub chain: Vec<String>,
    /// Their pids and what they want: what two looks differ in if there is something new to tell.
    pub positions: Vec<(i32, String, bool)>,
    /// Whether somebody in the chain had closed the gate before what takes its time.
    pub by_design: bool,
}

/// An append of the probe that goes on.
#[derive(Debug)]
struct Waiting {
    pid: i32,
    since: Instant,
    looks: Vec<Look>,
}

/// What the probe and its watcher tell each other.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Option<Waiting>>);

impl Watch {
    fn begin(&self, pid: i32) {
        *lock(&self.0) = Some(Waiting { pid, since: Instant::now(), looks: Vec::new() });
    }

    /// How long it took, and what was seen meanwhile.
    fn end(&self) -> Option<(Duration, Vec<Look>)> {
        lock(&self.0).take().map(|waiting| (waiting.since.elapsed(), waiting.looks))
    }

    fn suspicious(&self) -> Option<(i32, Instant)> {
        let waiting = lock(&self.0);
        let waiting = waiting.as_ref()?;
        (waiting.since.elapsed() > SUSPICIOUS).then_some((waiting.pid, waiting.since))
    }

    /// Keeps a look at the append that began at `since`, unless it shows what the last one has shown.
    fn keep(&self, since: Instant, look: Look) {
        if let Some(waiting) = lock(&self.0).as_mut().filter(|waiting| waiting.since == since)
            && waiting.looks.last().is_none_or(|last| last.positions != look.positions)
        {
            waiting.looks.push(look);
        }
    }
}

/// Appends until the load is over.
pub fn run(shared: &Shared) -> Result<()> {
    let mut session = Session::open(shared, Role::Protected, Some(APP))?;
    let mut append = session.insist(|client| client.prepare(APPEND))?;
    let mut number = 0_u64;
    while !shared.is_load_over() {
        number += 1;
        let tag = format!("probe-{number}");
        let metadata = format!(r#"{{"tx": "{tag}"}}"#);
        let nothing: (Option<i64>, Option<String>) = (None, None);
        shared.watch.begin(session.pid);
        let result = session
            .client
            .query_one(&append, &[&"probe", &"probe", &"{}", &metadata, &nothing.0, &nothing.1]);
        if let Some((time, looks)) = shared.watch.end() {
            shared.stats.probe_took(time, looks);
        }
        match result {
            Ok(row) => {
                let event = Written { stream: "probe".to_owned(), version: row.try_get(0)? };
                let positions = vec![(event.clone(), row.try_get(1)?)];
                shared.record(Entry {
                    tag,
                    outcome: Outcome::Committed,
                    events: vec![event],
                    positions,
                    untold: 0,
                });
                shared.stats.committed(1);
            }
            Err(error) => {
                if session.overcome(Operation::Append, Fault::Sql(error))? == Failed::Lost {
                    append = session.insist(|client| client.prepare(APPEND))?;
                    let (events, positions) = (Vec::new(), Vec::new());
                    shared.record(Entry { tag, outcome: Outcome::Unknown, events, positions, untold: 1 });
                }
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Watches the probe until the load is over.
pub fn watch(shared: &Shared) -> Result<()> {
    let mut session = Session::open(shared, Role::Protected, None)?;
    while !shared.is_load_over() {
        if let Some((pid, since)) = shared.watch.suspicious() {
            let after = since.elapsed();
            let rows = session.insist(|client| client.query(CHAIN, &[&pid]))?;
            shared.watch.keep(since, look(shared, after, &rows)?);
        }
        thread::sleep(PULSE);
    }
    Ok(())
}

fn look(shared: &Shared, after: Duration, rows: &[Row]) -> Result<Look> {
    let mut look = Look { after, ..Look::default() };
    for row in rows {
        let (pid, depth): (i32, i32) = (row.try_get("pid")?, row.try_get("depth")?);
        let wants = match row.try_get::<_, Option<String>>("wants")? {
            Some(lock) => format!(", wants {lock}"),
            None => String::new(),
        };
        let has_gate: bool = row.try_get("has_gate")?;
        look.positions.push((pid, wants.clone(), has_gate));
        let gate = if has_gate { ", has closed the gate" } else { "" };
        let (state, waits, query): (String, String, String) =
            (row.try_get("state")?, row.try_get("waits")?, row.try_get("query")?);
        let doing = shared.doing(pid);
        look.by_design |= depth > 0 && doing.as_ref().is_some_and(|doing| doing.keeps_gate);
        let doing = doing.map_or_else(|| query, |doing| doing.text);
        look.chain.push(match depth {
            0 => format!("the probe, {waits}{wants}"),
            _ => {
                let indent = "  ".repeat(usize::try_from(depth)?);
                format!("{indent}{} {pid}, {state}, {waits}{wants}{gate}: {doing}", shared.who(pid))
            }
        });
    }
    if look.chain.len() > LONGEST_CHAIN {
        let more = look.chain.split_off(LONGEST_CHAIN).len();
        look.chain.push(format!("  and {more} more"));
    }
    Ok(look)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_shows_nothing_new_is_not_kept() {
        let watch = Watch::default();
        assert!(watch.end().is_none());
        watch.begin(1);
        let since = lock(&watch.0).as_ref().map(|waiting| waiting.since);
        let look = |pid| Look { positions: vec![(pid, String::new(), false)], ..Look::default() };
        for pid in [2, 2, 3] {
            since.into_iter().for_each(|since| watch.keep(since, look(pid)));
        }
        // Of an append that is over.
        watch.keep(Instant::now() + PULSE, look(4));
        assert_eq!(watch.end().map(|(_, looks)| looks.len()), Some(2));
    }
}
