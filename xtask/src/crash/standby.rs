//! What readers on a hot standby see of rebuilds on the primary: the same as there, with one exception, which is shown.

use anyhow::{Context, Result, anyhow, ensure};
use postgres::Client;
use postgres::error::SqlState;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use super::case::{close_door, open_door, wait_at_door, wait_for, wait_for_job};
use super::imported;
use super::ledger::Fate;
use super::promotion;
use super::run::Run;
use super::world::{World, append_sql, expect, explain};
use crate::server::{Server, ServerOptions};
use crate::server_log;

pub const START_NEW: &str = "SELECT refold.start_rebuild('cart', 'fold_cart_twice(cart, refold.event)')";
pub const TO_OLD: &str = "SELECT refold.rebuild_projection('cart', 'fold_cart(cart, refold.event)')";
const TO_NEW: &str = "SELECT refold.rebuild_projection('cart', 'fold_cart_twice(cart, refold.event)')";
const CALL_OLD: &str = "CALL refold.rebuild_projection_concurrently('cart', 'fold_cart(cart, refold.event)')";
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM refold.event";
const LOADS: usize = 2;

/// Nothing is pruned behind a reader's back: only what refold itself does is replayed.
pub fn primary_options() -> ServerOptions {
    ServerOptions::with(&[("autovacuum", "off")])
}

/// Replay waits for readers as long as it takes.
pub fn options() -> ServerOptions {
    ServerOptions::with(&[("hot_standby_feedback", "on"), ("max_standby_streaming_delay", "-1")])
}

pub fn run(primary: &Server, mut standby: Server, run: &mut Run) -> Result<()> {
    let mut pair = Pair { world: World::create(primary)?, standby: &standby };
    pair.catch_up()?;
    run.case("standby: readers see rebuilds whole, under load", || under_load(&mut pair));
    run.case("standby: readers of one snapshot, atomic rebuild", || atomic(&pair));
    run.case("standby: readers of one snapshot, concurrent rebuild", || concurrent(&mut pair));
    run.case("standby: a snapshot that is imported on the primary", || imported::run(&mut pair.world));
    run.case("standby: a reader that is in the swap's way is cancelled", || in_the_way(&pair));
    run.case("standby: read_all passes no gap that may be filled", || gaps(&mut pair));

    run.case("standby: nobody appends or rebuilds there", || read_only(&pair));
    run.case("standby: promoted amid jobs and a rebuild", || promotion::run(pair));
    if run.has_failed() {
        println!("logs of the standby: {}", standby.preserve_logs()?.display());
    } else {
        run.closing_case("server log of the standby", || server_log::check(&standby.log_file()));
    }
    Ok(())
}

/// A database on the primary, and the server that follows.
pub struct Pair<'a> {
    pub world: World<'a>,
    pub standby: &'a Server,
}

impl Pair<'_> {
    /// A reader on the standby.
    fn reader(&self) -> Result<Client> {
        self.standby.config(&self.world.database).connect(postgres::NoTls).map_err(explain)
    }

    /// One whose transaction has its snapshot, and has not touched the model.
    fn reader_of_now(&self) -> Result<Client> {
        self.catch_up()?;
        let mut reader = self.reader()?;
        reader.batch_execute(SNAPSHOT).map_err(explain)?;
        Ok(reader)
    }

    /// Returns when the standby has replayed all that is committed now.
    pub fn catch_up(&self) -> Result<()> {
        let end = self.flushed()?;
        let mut reader = self.standby.config("postgres").connect(postgres::NoTls).map_err(explain)?;
        wait_for(|| Ok(has_replayed(&mut reader, &end)?.then_some(()))).context("waiting for the standby")
    }

    fn flushed(&self) -> Result<String> {
        let mut client = self.world.connect_passing()?;
        let sql = "SELECT pg_current_wal_flush_lsn()::text";
        Ok(client.query_one(sql, &[]).map_err(explain)?.try_get(0)?)
    }
}

fn has_replayed(reader: &mut Client, end: &str) -> Result<bool> {
    let sql = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
    Ok(reader.query_one(sql, &[&end]).map_err(explain)?.try_get(0)?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// That of the log, by one handler or the other.
    Old,
    New,
    /// No model of the log that the same statement sees: so many rows.
    Neither(i64),
}

/// Compares the model with the log, in one statement.
fn model(reader: &mut Client) -> Result<Model> {
    const SQL: &str = "SELECT count(*) FILTER (WHERE c.items IS DISTINCT FROM l.n),
               count(*) FILTER (WHERE c.items IS DISTINCT FROM 2 * l.n), count(c.cart_id)
          FROM (SELECT e.stream_id, sum((e.data->>'n')::bigint) AS n FROM refold.event AS e GROUP BY 1) AS l
          FULL JOIN cart AS c ON c.cart_id = l.stream_id";
    let row = reader.query_one(SQL, &[]).map_err(explain)?;
    Ok(match (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?) {
        (0_i64, _, _) => Model::Old,
        (_, 0_i64, _) => Model::New,
        (_, _, rows) => Model::Neither(rows),
    })
}

pub fn expect_model(who: &str, reader: &mut Client, expected: Model) -> Result<()> {
    let seen = model(reader)?;
    ensure!(seen == expected, "{who} sees {seen:?}, not {expected:?}");
    Ok(())
}

/// Something that goes on until it is stopped.
struct Ongoing<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<T>>,
}

impl<T: Send + 'static> Ongoing<T> {
    fn start(run: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Self { stop, thread: thread::spawn(move || run(&stopped)) }
    }

    fn stop(self) -> Result<T> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a thread has panicked"))?
    }
}

/// READ COMMITTED readers of the model and a follower of the log, while appends commit late and models change.
fn under_load(pair: &mut Pair) -> Result<()> {
    let mut loads = Vec::new();
    for number in 0..LOADS {
        let client = pair.world.connect_passing()?;
        loads.push(Ongoing::start(move |stop| append_until(stop, client, number)));
    }
    let mut reader = pair.reader()?;
    let watcher = Ongoing::start(move |stop| {
        let mut seen = [0, 0];
        while !stop.load(Ordering::Relaxed) {
            match model(&mut reader)? {
                Model::Old => seen[0] += 1,
                Model::New => seen[1] += 1,
                neither => return Err(anyhow!("a reader sees {neither:?}")),
            }
        }
        Ok(seen)
    });
    let mut reader = pair.reader()?;
    let follower = Ongoing::start(move |stop| {
        let mut positions = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            follow(&mut reader, &mut positions)?;
        }
        Ok(positions)
    });
    let mut client = pair.world.connect_passing()?;
    for _ in 0..2 {
        for sql in [TO_NEW, CALL_OLD] {
            client.batch_execute(sql).map_err(explain)?;
            sleep(Duration::from_millis(100));
        }
    }
    for load in loads {
        for (tag, fate) in load.stop()? {
            pair.world.ledger.enter(&tag, 2, fate);
        }
    }
    pair.catch_up()?;
    let [old, new] = watcher.stop()?;
    ensure!(old > 0 && new > 0, "the models were seen {old} and {new} times");
    let mut positions = follower.stop()?;
    let mut reader = pair.reader()?;
    let log = "SELECT position FROM refold.event ORDER BY 1";
    let log: Vec<i64> = client
        .query(log, &[])
        .map_err(explain)?
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
    // An abort is sent in its time; only then is its gap known to be one for good.
    wait_for(|| {
        follow(&mut reader, &mut positions)?;
        Ok((positions.len() >= log.len()).then_some(()))
    })?;
    ensure!(positions == log, "a follower got {} events, and the log has {}", positions.len(), log.len());
    Ok(())
}

/// Draws positions, waits, and then commits or not.
fn append_until(stop: &AtomicBool, mut client: Client, number: usize) -> Result<Vec<(String, Fate)>> {
    let mut done = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let tag = format!("load-{number}-{}", done.len());
        let (end, fate) = if done.len() % 4 == 3 { ("ROLLBACK", Fate::Lost) } else { ("COMMIT", Fate::Kept) };
        let append = append_sql(&format!("load-{number}-{}", done.len() % 5), &tag, 2);
        let wait = 0.004 * (done.len() % 3) as f64;
        client.batch_execute(&format!("BEGIN; {append}; SELECT pg_sleep({wait}); {end}")).map_err(explain)?;
        done.push((tag, fate));
    }
    Ok(done)
}

/// What read_all has more.
fn follow(reader: &mut Client, positions: &mut Vec<i64>) -> Result<()> {
    let last = positions.last().copied().unwrap_or_default();
    let rows = reader.query("SELECT position FROM refold.read_all($1)", &[&last]).map_err(explain)?;
    for row in rows {
        positions.push(row.try_get(0)?);
    }
    Ok(())
}

fn atomic(pair: &Pair) -> Result<()> {
    let mut client = pair.world.connect_passing()?;
    let mut before = pair.reader_of_now()?;
    client.batch_execute(TO_NEW).map_err(explain)?;
    let mut after = pair.reader_of_now()?;
    expect_model("a snapshot from before", &mut before, Model::Old)?;
    expect_model("a snapshot from after", &mut after, Model::New)?;
    client.batch_execute(TO_OLD).map_err(explain)?;
    pair.catch_up()?;
    expect_model("a snapshot from between", &mut after, Model::New)
}

/// Snapshots from every phase, whose transactions touch the model for the first time when the swap has been replayed.
fn concurrent(pair: &mut Pair) -> Result<()> {
    const BUILDING: &str = "batch: checkpoint written";
    const BEFORE_FLIP: &str = "job: gate closed";
    const AFTER_FLIP: &str = "job: waiting for snapshots";
    let mut doorman = pair.world.connect_passing()?;
    let mut from_before = pair.reader_of_now()?;
    for place in [BUILDING, BEFORE_FLIP, AFTER_FLIP] {
        close_door(&mut doorman, place)?;
    }
    doorman.batch_execute(START_NEW).map_err(explain)?;
    wait_at_door(&mut doorman)?;
    // For the last stretch, under the gate.
    let mut client = pair.world.connect_passing()?;
    pair.world.append(&mut client, "while it builds", 1)?;
    open_door(&mut doorman, BUILDING)?;
    let flips =
        "SELECT FROM pg_locks WHERE relation = 'refold.gate'::regclass AND mode = 'ShareRowExclusiveLock'";
    wait_for(|| Ok(doorman.query_opt(flips, &[]).map_err(explain)?.map(|_| ())))?;
    wait_at_door(&mut doorman)?;
    let mut from_replay = pair.reader_of_now()?;
    open_door(&mut doorman, BEFORE_FLIP)?;
    let mirrors = "SELECT FROM refold.rebuild_job WHERE phase = 'waiting for snapshots'";
    wait_for(|| Ok(doorman.query_opt(mirrors, &[]).map_err(explain)?.map(|_| ())))?;
    let mut from_flip = pair.reader_of_now()?;
    let mut user = pair.reader_of_now()?;
    expect_model("a user of the model", &mut user, Model::Old)?;
    open_door(&mut doorman, AFTER_FLIP)?;
    wait_for_job(&mut doorman)?;

    // Its lock is in the replay's way, and whoever comes next queues behind the replay, as for any ALTER TABLE.
    let end = pair.flushed()?;
    let mut next = pair.reader()?;
    next.batch_execute("SET lock_timeout = '100ms'").map_err(explain)?;
    wait_for(|| Ok(next.batch_execute("TABLE cart").is_err().then_some(())))?;
    expect(&mut next, "TABLE cart", &SqlState::LOCK_NOT_AVAILABLE)?;
    expect_model("a user of the model", &mut user, Model::Old)?;
    ensure!(!has_replayed(&mut next, &end)?, "the swap is replayed under a reader");
    user.batch_execute("COMMIT").map_err(explain)?;

    let mut from_after = pair.reader_of_now()?;
    let all: i64 = next.query_one("SELECT count(*) FROM cart", &[]).map_err(explain)?.try_get(0)?;
    expect_model("a reader that keeps no snapshot", &mut next, Model::New)?;
    expect_model("a snapshot from after the swap", &mut from_after, Model::New)?;
    expect_model("a snapshot from after the flip", &mut from_flip, Model::New)?;
    // The exception: on the primary the swap would have waited for these two.
    expect_model("a snapshot from before the rebuild", &mut from_before, Model::Neither(0))?;
    let part = model(&mut from_replay)?;
    let is_part = matches!(part, Model::Neither(rows) if rows > 0 && rows < all);
    ensure!(is_part, "a snapshot from before the flip sees {part:?} of {all} rows");
    doorman.batch_execute(CALL_OLD).map_err(explain)
}

fn in_the_way(pair: &Pair) -> Result<()> {
    const CONFLICTS: &str =
        "SELECT confl_lock FROM pg_stat_database_conflicts WHERE datname = current_database()";
    let mut admin = pair.reader()?;
    let set = |admin: &mut Client, delay: &str| -> Result<()> {
        admin
            .batch_execute(&format!("ALTER SYSTEM SET max_standby_streaming_delay = '{delay}'"))
            .and_then(|()| admin.batch_execute("SELECT pg_reload_conf()"))
            .map_err(explain)
    };
    let mut user = pair.reader_of_now()?;
    expect_model("a user of the model", &mut user, Model::Old)?;
    set(&mut admin, "100ms")?;
    let mut client = pair.world.connect_passing()?;
    client
        .batch_execute(
            "CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_twice(cart, refold.event)')",
        )
        .map_err(explain)?;
    pair.catch_up()?;
    ensure!(user.batch_execute("SELECT").is_err(), "the reader goes on");
    let conflicts = |admin: &mut Client| -> Result<i64> {
        Ok(admin.query_one(CONFLICTS, &[]).map_err(explain)?.try_get(0)?)
    };
    wait_for(|| Ok((conflicts(&mut admin)? > 0).then_some(())))
        .context("waiting for the conflict's count")?;
    expect_model("the next reader", &mut admin, Model::New)?;
    set(&mut admin, "-1")?;
    client.batch_execute(TO_OLD).map_err(explain)?;
    pair.catch_up()
}

/// An append that has drawn its position and is still open; then one that never commits.
fn gaps(pair: &mut Pair) -> Result<()> {
    for (end, fate) in [("COMMIT", Fate::Kept), ("ROLLBACK", Fate::Lost)] {
        let mut early = pair.world.connect_passing()?;
        let mut client = pair.world.connect_passing()?;
        let tag = pair.world.ledger.new_tag();
        early.batch_execute(&format!("BEGIN; {}", append_sql("early", &tag, 1))).map_err(explain)?;
        let gap: i64 =
            early.query_one("SELECT max(position) FROM refold.event", &[]).map_err(explain)?.try_get(0)?;
        pair.world.ledger.enter(&tag, 1, fate);
        pair.world.append(&mut client, "late", 2)?;
        pair.catch_up()?;
        let mut reader = pair.reader()?;
        let (log, read) = ends(&mut reader)?;
        ensure!(log > gap, "the later append is not there");
        ensure!(read < gap, "read_all has passed {gap} and is at {read}");
        early.batch_execute(end).map_err(explain)?;
        pair.catch_up()?;
        wait_for(|| {
            let (log, read) = ends(&mut reader)?;
            Ok((read == log).then_some(()))
        })
        .with_context(|| format!("waiting for read_all to pass {gap}"))?;
    }
    Ok(())
}

/// Where the log ends, and where read_all does.
fn ends(reader: &mut Client) -> Result<(i64, i64)> {
    let sql = "SELECT (SELECT max(position) FROM refold.event), (SELECT max(position) FROM refold.read_all(0, 100000))";
    let row = reader.query_one(sql, &[]).map_err(explain)?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn read_only(pair: &Pair) -> Result<()> {
    let mut reader = pair.reader()?;
    for sql in [
        append_sql("never", "never", 1).as_str(),
        TO_NEW,
        START_NEW,
        "SELECT refold.verify_projection('cart')",
    ] {
        expect(&mut reader, sql, &SqlState::READ_ONLY_SQL_TRANSACTION)?;
    }
    let events = "SELECT count(*) FROM refold.read_stream('seed-3')";
    let events: i64 = reader.query_one(events, &[]).map_err(explain)?.try_get(0)?;
    ensure!(events > 0, "the stream is empty");
    Ok(())
}
