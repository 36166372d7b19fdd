//! Every loop and every wait is cancelled and ended: the answer comes soon, and nothing is left.

use anyhow::{Context, Result, anyhow, bail, ensure};
use postgres::{Client, Config};
use std::fmt;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::{FOR_LOCK, PATIENCE, SET_UP, require_nothing_left, until_true};
use crate::session::explain;
use crate::world::connect;

/// At how many moments of its run an operation is interrupted.
const MOMENTS: u32 = 5;

/// What takes time by itself. Interrupted all along, in a transaction that is rolled back.
const BUSY: [(&str, &str); 10] = [
    ("append_events, all projections", "SELECT refold.append_events('big', (SELECT small FROM batch))"),
    ("append_events, no projection", "SELECT refold.append_events('big', (SELECT large FROM batch))"),
    ("rebuild, per event", "SELECT refold.rebuild_projection('line')"),
    ("rebuild, per batch", "SELECT refold.rebuild_projection('sum')"),
    ("rebuild, fold", "SELECT refold.rebuild_projection('stream')"),
    ("rebuild, fold by key", "SELECT refold.rebuild_projection('shelf')"),
    (
        "rebuild, merge of all rows",
        "DELETE FROM stream; SELECT refold.lock_gate(), refold.rebuild_projection('stream')",
    ),
    ("verify", "SELECT refold.verify_projection('stream')"),
    ("verify, all rows differ", "UPDATE stream SET n = -1; SELECT refold.verify_projection('stream')"),
    ("read_all", "SELECT count(*) FROM refold.read_all(0, 1000000000)"),
];

/// What waits: for a lock that `holder` has, until `waits` says so of the process `$1`.
struct Wait {
    name: &'static str,
    holder: &'static str,
    sql: &'static str,
    waits: &'static str,
}

const GONE: &str = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
const AT_THE_GATE: &str =
    "SELECT EXISTS (SELECT FROM refold.rebuild_progress WHERE pid = $1 AND gate_attempts > 2)";

const WAITS: [Wait; 9] = [
    Wait {
        name: "append, for its stream",
        holder: "SELECT refold.append_event('held', 'free', '{}')",
        sql: "SELECT refold.append_event('held', 'free', '{}')",
        waits: FOR_LOCK,
    },
    Wait {
        name: "append, for its fold key",
        holder: "SELECT refold.append_event('a', 'shelf', '{}')",
        sql: "SELECT refold.append_event('b', 'shelf', '{}')",
        waits: FOR_LOCK,
    },
    Wait {
        name: "append, for the gate",
        holder: "SELECT refold.lock_gate()",
        sql: "SELECT refold.append_event('held', 'free', '{}')",
        waits: FOR_LOCK,
    },
    Wait {
        name: "append, for a table",
        holder: "LOCK TABLE line",
        sql: "SELECT refold.append_event('held', 'line', '{}')",
        waits: FOR_LOCK,
    },
    Wait {
        name: "rebuild, for an append",
        holder: "SELECT refold.append_event('held', 'free', '{}')",
        sql: "SELECT refold.rebuild_projection('line')",
        waits: FOR_LOCK,
    },
    Wait {
        name: "rebuild, for the gate's holders",
        holder: "LOCK TABLE refold.gate IN ROW EXCLUSIVE MODE",
        sql: "SELECT refold.rebuild_projection('stream')",
        waits: FOR_LOCK,
    },
    Wait {
        name: "rebuild, for a writer of the model",
        holder: "LOCK TABLE line IN ROW EXCLUSIVE MODE",
        sql: "SELECT refold.rebuild_projection('line')",
        waits: FOR_LOCK,
    },
    Wait {
        name: "rebuild, attempts at the gate",
        holder: "LOCK TABLE line IN ROW EXCLUSIVE MODE",
        sql: "SET LOCAL refold.gate_attempts = 1000000; SELECT refold.lock_gate(), refold.rebuild_projection('line')",
        waits: AT_THE_GATE,
    },
    Wait {
        name: "drop, for the gate's holders",
        holder: "LOCK TABLE refold.gate IN ROW EXCLUSIVE MODE",
        sql: "SELECT refold.drop_projection('line')",
        waits: FOR_LOCK,
    },
];

/// Between two looks whether an operation has ended.
const SHORT: Duration = Duration::from_millis(2);
/// After so long a cancel is sent again.
const ASK_AGAIN: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Cancel,
    Terminate,
}

impl Signal {
    fn sql(self) -> &'static str {
        match self {
            Self::Cancel => "SELECT pg_cancel_backend($1)",
            Self::Terminate => "SELECT pg_terminate_backend($1)",
        }
    }

    fn sqlstate(self) -> &'static str {
        match self {
            Self::Cancel => "57014",
            Self::Terminate => "57P01",
        }
    }
}

/// How long one operation took to answer, at most.
pub struct Answered {
    operation: String,
    took: Duration,
    interrupts: usize,
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, took, interrupts } = self;
        write!(f, "{operation}: {interrupts} interrupts, {:.1} ms at most", took.as_secs_f64() * 1000.0)
    }
}

/// In an empty database, as the superuser, with a log of so many events.
pub fn interrupts(config: &Config, events: u32) -> Result<Vec<Answered>> {
    let mut control = connect(config)?;
    control.batch_execute(SET_UP).map_err(explain).context("could not set up the database")?;
    fill(&mut control, events).map_err(explain)?;
    let mut answers = Vec::new();
    for (name, sql) in BUSY {
        answers.push(sweep(config, &mut control, name, sql).with_context(|| name)?);
    }
    for wait in &WAITS {
        answers.push(interrupt_wait(config, &mut control, wait).with_context(|| wait.name)?);
    }
    answers.push(interrupt_tail(config, &mut control, events).context("rebuild, tail")?);
    let wrong = "SELECT count(*) FROM refold.projections AS p, refold.verify_projection(p.name)";
    let wrong: i64 = control.query_one(wrong, &[]).map_err(explain)?.try_get(0)?;
    ensure!(wrong == 0, "{wrong} rows of the models are not what the log says");
    Ok(answers)
}

/// Ten events for each stream; `batch` holds as many again as two arguments of append_events.
fn fill(control: &mut Client, events: u32) -> Result<(), postgres::Error> {
    control.batch_execute(&format!(
        "SELECT count(refold.append_events('s-' || s, (SELECT jsonb_agg(jsonb_build_object('type', (ARRAY['tick', 'line'])[1 + n % 2],
             'data', jsonb_build_object('n', 1))) FROM generate_series(1, 10) AS n)))
           FROM generate_series(1, {events} / 10) AS s;
         CREATE TABLE batch AS SELECT
           jsonb_agg(jsonb_build_object('type', (ARRAY['tick', 'line'])[1 + n % 2], 'data', '{{}}'::jsonb)) AS small,
           jsonb_agg(jsonb_build_object('type', 'free', 'data', repeat(md5(n::text), 30))) AS large
           FROM generate_series(1, {events}) AS n;
         ANALYZE"
    ))
}

/// Interrupts at moments spread over the time that the operation takes; the last one ends the session.
fn sweep(config: &Config, control: &mut Client, name: &str, sql: &str) -> Result<Answered> {
    let mut client = connect(config)?;
    let started = Instant::now();
    client.batch_execute(&format!("BEGIN; {sql}; ROLLBACK")).map_err(explain)?;
    let duration = started.elapsed();
    let mut took = Vec::new();
    for moment in 1..=MOMENTS {
        let signal = if moment == MOMENTS { Signal::Terminate } else { Signal::Cancel };
        let wait = |_: &mut Client, _| {
            sleep(duration * moment / (MOMENTS + 2));
            Ok(())
        };
        took.extend(interrupt(config, control, sql, signal, wait)?);
    }
    answered(name, &took)
}

fn interrupt_wait(config: &Config, control: &mut Client, wait: &Wait) -> Result<Answered> {
    let mut took = Vec::new();
    for signal in [Signal::Cancel, Signal::Terminate] {
        let mut holder = connect(config)?;
        holder.batch_execute(&format!("BEGIN; {}", wait.holder)).map_err(explain)?;
        let until = |control: &mut Client, pid| until_true(control, wait.waits, pid);
        let answer = interrupt(config, control, wait.sql, signal, until)?;
        took.push(answer.ok_or_else(|| anyhow!("it did not wait"))?);
        holder.batch_execute("ROLLBACK").map_err(explain)?;
    }
    answered(wait.name, &took)
}

/// What is appended while a rebuild waits for the gate's holders is its tail, which it replays once they have ended.
fn interrupt_tail(config: &Config, control: &mut Client, events: u32) -> Result<Answered> {
    // Per event: a fold's tail is over in no time.
    let sql = "SELECT refold.rebuild_projection('line')";
    let mut took = Vec::new();
    for signal in [Signal::Cancel, Signal::Terminate] {
        let mut holder = connect(config)?;
        holder.batch_execute("BEGIN; LOCK TABLE refold.gate IN ROW EXCLUSIVE MODE").map_err(explain)?;
        let when = |control: &mut Client, pid| {
            until_true(control, FOR_LOCK, pid)?;
            let append = "SELECT refold.append_events('tail', (SELECT small FROM batch))";
            control.batch_execute(append).map_err(explain)?;
            holder.batch_execute("COMMIT").map_err(explain)?;
            // Each takes some ten times as long.
            sleep(Duration::from_micros(1) * events);
            Ok(())
        };
        took.extend(interrupt(config, control, sql, signal, when)?);
    }
    answered("rebuild, tail", &took)
}

fn answered(operation: &str, took: &[Duration]) -> Result<Answered> {
    let longest = took.iter().max().ok_or_else(|| anyhow!("it always ended before it was interrupted"))?;
    ensure!(*longest < PATIENCE, "it took {longest:?} to answer");
    Ok(Answered { operation: operation.to_owned(), took: *longest, interrupts: took.len() })
}

/// Runs a statement in a session of its own, interrupts it `when` that returns, and gives the time to its answer; or
/// nothing if it ended before. Nothing may be left, and a session that was only cancelled goes on.
fn interrupt(
    config: &Config,
    control: &mut Client,
    sql: &str,
    signal: Signal,
    when: impl FnOnce(&mut Client, i32) -> Result<()>,
) -> Result<Option<Duration>> {
    let mut victim = connect(config)?;
    let pid: i32 = victim.query_one("SELECT pg_backend_pid()", &[]).map_err(explain)?.try_get(0)?;
    let script = format!("BEGIN; {sql}; ROLLBACK");
    let (sent, (result, ended)) = thread::scope(|scope| {
        let running = scope.spawn(|| (victim.batch_execute(&script), Instant::now()));
        let ready = when(control, pid);
        let sent = Instant::now();
        control.query_one(signal.sql(), &[&pid]).map_err(explain)?;
        // PostgreSQL takes a cancel that comes together with a lock's timeout for that timeout alone: ask again.
        while !running.is_finished() && sent.elapsed() < PATIENCE {
            sleep(SHORT);
            if signal == Signal::Cancel && sent.elapsed() > ASK_AGAIN && !running.is_finished() {
                control.query_one(signal.sql(), &[&pid]).map_err(explain)?;
            }
        }
        let ended = running.join().map_err(|_| anyhow!("a client panicked"))?;
        ready.map(|()| (sent, ended))
    })?;
    let interrupted = match result {
        Ok(()) => false,
        Err(error) if error.code().is_some_and(|code| code.code() == signal.sqlstate()) => true,
        // The client may see the connection's end before it reads the last message.
        Err(error) if signal == Signal::Terminate && error.is_closed() => true,
        Err(error) => return Err(explain(error)),
    };
    match signal {
        Signal::Cancel if interrupted => require_usable(&mut victim)?,
        // A cancel that comes too late may hit a later statement.
        Signal::Cancel => {}
        Signal::Terminate => until_true(control, GONE, pid)?,
    }
    require_nothing_left(control, pid)?;
    Ok(interrupted.then(|| ended.saturating_duration_since(sent)))
}

/// Refold still answers, needing no lock: not with 55000, as inside a handler.
fn require_usable(victim: &mut Client) -> Result<()> {
    victim.batch_execute("ROLLBACK").map_err(explain)?;
    match victim.batch_execute("SELECT refold.append_event('', 'free', '{}')") {
        Err(error) if error.code().is_some_and(|code| code.code() == "22023") => {}
        Err(error) => return Err(explain(error)),
        Ok(()) => bail!("an append to a stream without a name"),
    }
    // An error is told before its transaction is rolled back: that has been done when this returns.
    victim.batch_execute("SELECT").map_err(explain)
}
