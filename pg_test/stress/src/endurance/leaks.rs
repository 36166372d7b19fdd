//! One session that fails some ten thousand times in each way: nothing of it may stay in the session's memory, its
//! locks, its settings or its identity, and it goes on working.

use anyhow::{Context, Result, ensure};
use postgres::error::Severity;
use postgres::{Client, Config, NoTls};
use std::sync::{Arc, Mutex, PoisonError};

use super::memory::{self, Grown, Kept, Memory};
use super::{SET_UP, require_nothing_left};
use crate::session::explain;
use crate::world::connect;

/// A statement that always fails in the same way, or never where no SQLSTATE is expected.
struct Way {
    name: &'static str,
    sql: &'static str,
    expected: Option<&'static str>,
    /// One of so many repetitions is made: what is slow.
    share: u32,
}

const fn fails(name: &'static str, expected: &'static str, sql: &'static str) -> Way {
    Way { name, sql, expected: Some(expected), share: 1 }
}

/// Where the session is set to fail.
const fn fails_in_replay(name: &'static str, sql: &'static str) -> Way {
    slow(25, fails(name, "ZX125", sql))
}

const fn works(name: &'static str, sql: &'static str) -> Way {
    Way { name, sql, expected: None, share: 1 }
}

const fn slow(share: u32, way: Way) -> Way {
    Way { share, ..way }
}

/// Each alone in its transaction, and all in a long one; a failure is caught in a subtransaction.
const WAYS: [Way; 15] = [
    fails("handler per event", "ZX123", r#"SELECT refold.append_event('one', 'line', '{"fail": "raise"}')"#),
    fails("handler per batch", "22012", r#"SELECT refold.append_event('one', 'sum', '{"fail": "divide"}')"#),
    fails("fold", "ZX123", r#"SELECT refold.append_event('one', 'stream', '{"fail": "raise"}')"#),
    fails("fold by key", "23514", r#"SELECT refold.append_event('one', 'shelf', '{"n": 1000000000}')"#),
    fails("key function", "ZX124", r#"SELECT refold.append_event('one', 'shelf', '{"keyless": true}')"#),
    fails("row of another key", "39000", r#"SELECT refold.append_event('one', 'stream', '{"row": "x"}')"#),
    fails("unique key", "23505", r#"SELECT refold.append_event('one', 'line', '{"code": "taken"}')"#),
    fails(
        "expected version",
        "40001",
        "SELECT refold.append_event('one', 'line', '{}', expected_version => 9)",
    ),
    fails("bad argument", "22023", "SELECT refold.append_event('', 'line', '{}')"),
    fails("bad batch", "22023", r#"SELECT refold.append_events('one', '[{"type": "line", "data": 1}, 2]')"#),
    fails(
        "repeated event_id",
        "23505",
        "SELECT refold.append_event('one', 'tick', '{}', event_id => '018f0000-0000-7000-8000-000000000001')",
    ),
    fails(
        "append in a handler",
        "55000",
        r#"SELECT refold.append_event('one', 'sum', '{"fail": "append"}')"#,
    ),
    // PostgreSQL's own error in a call of Rust's: it unwinds as a panic.
    fails(
        "read-only transaction",
        "25006",
        "SELECT set_config('transaction_read_only', 'on', true), refold.append_event('one', 'line', '{}')",
    ),
    works("append", "SELECT refold.append_event('one', 'tick', '{}')"),
    works(
        "append of a batch",
        r#"SELECT refold.append_events('one', '[{"type": "tick", "data": 1}, {"type": "line", "data": {"fail": "caught"}}]')"#,
    ),
];

/// The notices of the session's client that are warnings or worse.
type Warnings = Arc<Mutex<Vec<String>>>;

struct Session {
    client: Client,
    pid: i32,
    /// Changes catalogs while the session waits.
    changer: Client,
    warnings: Warnings,
}

impl Session {
    fn open(config: &Config) -> Result<Self> {
        let warnings = Warnings::default();
        let mut config = config.clone();
        let sink = Arc::clone(&warnings);
        config.options("-c statement_timeout=60s").notice_callback(move |notice| {
            if !matches!(notice.parsed_severity(), Some(Severity::Notice | Severity::Info | Severity::Debug))
            {
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(notice.to_string());
            }
        });
        let mut client = config.connect(NoTls).map_err(explain)?;
        let pid = client.query_one("SELECT pg_backend_pid()", &[]).map_err(explain)?.try_get(0)?;
        Ok(Self { client, pid, changer: connect(&config)?, warnings })
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        self.client.batch_execute(&format!("SET {name} = '{value}'")).map_err(explain)
    }

    /// After the caches were forgotten and filled again.
    fn memory_without_caches(&mut self, way: &Way) -> Result<Memory> {
        memory::forget_caches(&mut self.client, self.pid, &mut self.changer)?;
        for _ in 0..FILLS {
            self.run(way)?;
        }
        Memory::of(&mut self.client, self.pid)
    }

    fn run(&mut self, way: &Way) -> Result<()> {
        let code = match self.client.simple_query(way.sql) {
            Ok(_) => None,
            Err(error) => match error.code() {
                Some(code) => Some(code.code().to_owned()),
                None => return Err(explain(error)),
            },
        };
        ensure!(code.as_deref() == way.expected, "expected {:?}, found {code:?}", way.expected);
        Ok(())
    }

    /// Each in its own transaction. A failure may leave in the caches of the catalogs what it has looked up; nothing
    /// else.
    fn run_alone(&mut self, way: &Way, times: u32) -> Result<Kept> {
        for _ in 0..times / 10 {
            self.run(way)?;
        }
        let before = self.memory_without_caches(way)?;
        for _ in times / 10..times {
            self.run(way)?;
        }
        let grown = self.memory_without_caches(way)?.since(before);
        grown.require_none()?;
        Ok(Kept { way: way.name.to_owned(), times, grown })
    }

    /// All in one transaction; returns how its memory has grown after the first tenth.
    fn run_together(&mut self, way: &Way, times: u32) -> Result<Grown> {
        let times = i32::try_from(times)?;
        let sql = "CALL repeat($1, $2, $3)";
        let heap_kb = memory::heap_kb(self.pid);
        let row = self.client.query_one(sql, &[&way.sql, &way.expected, &times]).map_err(explain)?;
        let before = Memory { contexts: row.try_get(0)?, bytes: row.try_get(1)?, heap_kb };
        let heap_kb = memory::heap_kb(self.pid);
        let after = Memory { contexts: row.try_get(2)?, bytes: row.try_get(3)?, heap_kb };
        Ok(after.since(before))
    }

    /// What fails leaves nothing in its transaction. What works leaves what PostgreSQL keeps of each row that its
    /// transaction has written twice ([`UPDATES`]), and nothing else.
    fn repeat(&mut self, way: &Way, failures: u32) -> Result<[Kept; 2]> {
        let times = failures / way.share;
        let alone = self.run_alone(way, times).with_context(|| way.name)?;
        let name = format!("{}, in one transaction", way.name);
        let grown = self.run_together(way, times).with_context(|| name.clone())?;
        let own = match way.expected {
            Some(_) => grown,
            None => grown.more_than(self.run_together(&UPDATES, times)?),
        };
        own.require_none().with_context(|| name.clone())?;
        Ok([alone, Kept { way: name, times, grown: own }])
    }

    /// All that a failure could have left changed.
    fn identity(&mut self) -> Result<Vec<String>> {
        let sql = "SELECT format('%s=%s', s.name, s.setting) FROM pg_settings AS s \
                   UNION ALL SELECT format('user=%s %s', current_user, session_user) ORDER BY 1";
        let rows = self.client.query(sql, &[]).map_err(explain)?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

/// Each in its own transaction only: in a long one PostgreSQL itself keeps something of tables that are made and dropped.
const REBUILDS: [Way; 6] = [
    fails_in_replay("rebuild per event", "SELECT refold.rebuild_projection('line')"),
    fails_in_replay("rebuild per batch", "SELECT refold.rebuild_projection('sum')"),
    fails_in_replay("rebuild of a fold", "SELECT refold.rebuild_projection('stream')"),
    fails_in_replay("failed verification", "SELECT refold.verify_projection('shelf')"),
    slow(25, works("rebuild", "SELECT refold.rebuild_projection('shelf')")),
    slow(25, works("verification", "SELECT refold.verify_projection('stream')")),
];
/// As many rows that its transaction has written before as an append of a `tick` updates, in as many commands: for each
/// PostgreSQL keeps a combo command id to the end of the transaction.
const UPDATES: Way = works(
    "updates",
    "UPDATE counter SET n = n + 1 WHERE id = 1; UPDATE counter SET n = n + 1 WHERE id = 2; \
     UPDATE counter SET n = n + 1 WHERE id = 3",
);
/// A way is taken so often to fill caches that are empty.
const FILLS: u32 = 10;
const BLOCKED: Way =
    slow(20, fails("lock_timeout", "55P03", "SELECT refold.append_event('held', 'line', '{}')"));
const CANCELLED: [Way; 2] = [
    slow(
        20,
        fails(
            "cancelled while it waits",
            "57014",
            "SET statement_timeout = '2ms'; SELECT refold.append_event('held', 'line', '{}')",
        ),
    ),
    slow(
        20,
        fails(
            "cancelled in a handler",
            "57014",
            r#"SET statement_timeout = '2ms'; SELECT refold.append_event('one', 'sum', '{"fail": "sleep"}')"#,
        ),
    ),
];

/// In an empty database, as the superuser; fails if anything is left. `failures` is how many there are of each way, and
/// again as many in subtransactions. Tells how the memory has grown all the same.
pub fn leaks(config: &Config, failures: u32) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    let mut other = connect(config)?;
    other.batch_execute(SET_UP).map_err(explain).context("could not set up the database")?;
    let mut session = Session::open(config)?;
    // The library brings settings of its own.
    session.run(&works("first append", "SELECT refold.append_event('one', 'tick', '{}')"))?;
    let identity = session.identity()?;
    // While the log is short.
    for way in &REBUILDS {
        let fail_at = if way.expected.is_some() { "one" } else { "" };
        session.set("endurance.fail", fail_at)?;
        kept.push(session.run_alone(way, failures / way.share).with_context(|| way.name)?);
    }
    session.set("endurance.fail", "")?;
    for way in &WAYS {
        kept.extend(session.repeat(way, failures)?);
    }
    other.batch_execute("BEGIN; SELECT refold.append_event('held', 'line', '{}')").map_err(explain)?;
    session.set("lock_timeout", "1ms")?;
    kept.extend(session.repeat(&BLOCKED, failures)?);
    session.set("lock_timeout", "0")?;
    for way in &CANCELLED {
        kept.push(session.run_alone(way, failures / way.share).with_context(|| way.name)?);
    }
    other.batch_execute("ROLLBACK").map_err(explain)?;

    require_nothing_left(&mut other, session.pid)?;
    let changed: Vec<_> = session.identity()?.into_iter().filter(|value| !identity.contains(value)).collect();
    ensure!(changed.is_empty(), "settings or roles have changed: {changed:?}");
    let warnings = session.warnings.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(warnings.is_empty(), "the session was warned: {warnings:#?}");
    Ok(kept)
}
