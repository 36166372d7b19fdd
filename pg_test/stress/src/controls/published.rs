//! The published protocol, and what is done to mend it: each loses an event, or its order, within seconds.

use anyhow::{Result, anyhow, bail, ensure};
use postgres::error::SqlState;
use postgres::{Client, Config};
use rand::RngExt;
use std::thread;
use std::time::{Duration, Instant};

use super::models::is_wrong_model;
use super::{PATIENCE, execute};
use crate::oracle::{self, Found, Looks};
use crate::plan::generator;
use crate::reader::Reader;
use crate::session::explain;
use crate::shared::Shared;
use crate::world::{connect, set_up_published};

const WRITERS: u64 = 4;
const ROUND: Duration = Duration::from_millis(500);
/// How long an append's transaction stays open at most, and how long its commit takes.
const LONGEST: u64 = 40;
const COMMIT: u64 = 3;
/// By then whoever had begun has ended.
const ENDED: Duration = Duration::from_millis(2 * (LONGEST + COMMIT));

const LAST_CHECK: &str = include_str!("../../sql/mends/last_check.sql");
const GRACE_PERIOD: &str = include_str!("../../sql/mends/grace_period.sql");
const RECHECK: &str = include_str!("../../sql/mends/recheck.sql");
const SKIP_RECORD: &str = include_str!("../../sql/mends/skip_record.sql");
/// For those that do nothing before a commit.
const NOTHING: &str = "CREATE FUNCTION before_commit(bigint) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'";
/// Appends that wait for a rebuild instead of skipping, and hold the lock to their end.
const WAITING: [&str; 2] = [
    "pg_try_advisory_xact_lock_shared(lock_key(projection))",
    "(SELECT true FROM pg_advisory_xact_lock_shared(lock_key(projection)))",
];

/// Gives a row if an event is in the log and not in sku_sales.
const LOST: &str =
    "SELECT FROM event e WHERE NOT EXISTS (SELECT FROM applied a WHERE a.position = e.position)";
/// Gives a row if cart has all events, and one of them after a later one.
const DISORDER: &str = "SELECT FROM cart WHERE out_of_order > 0 AND versions =
    (SELECT int8multirange(int8range(1, max(stream_version) + 1)) FROM event WHERE stream_id = cart_id)";

/// The reader must see a torn model, and the oracle a lost event once nothing is open any more.
pub fn as_it_is(config: &Config) -> Result<()> {
    set_up_published(config)?;
    execute(&mut connect(config)?, NOTHING)?;
    let started = Instant::now();
    let (mut seen, mut lost) = (false, false);
    let mut round = 0;
    while !(seen && lost) {
        ensure!(started.elapsed() < PATIENCE, "after {PATIENCE:?}: seen by the reader {seen}, lost {lost}");
        round += 1;
        let shared = Shared::new(config, round);
        seen |= read_round(&shared)?;
        let mut client = connect(config)?;
        for model in Looks::of_the_shop().iter() {
            let found = oracle::compare(&mut client, model).map_err(explain)?;
            lost |= matches!(found, Found::Wrong(_));
        }
    }
    Ok(())
}

/// Whether the reader saw something wrong.
fn read_round(shared: &Shared) -> Result<bool> {
    let read = || Reader::open(shared, 1, Looks::of_the_shop(), None)?.run();
    let rebuild = || {
        let mut client = connect(&shared.config)?;
        let mut version = 1;
        while !shared.is_load_over() {
            version = 3 - version;
            execute(&mut client, &format!("CALL rebuild('cart', {version})"))?;
            execute(&mut client, &format!("CALL rebuild('sku_sales', {version})"))?;
        }
        anyhow::Ok(())
    };
    thread::scope(|scope| {
        let reader = scope.spawn(read);
        let written = among_writers(shared, 50, || {
            thread::scope(|scope| {
                let rebuilder = scope.spawn(rebuild);
                thread::sleep(ROUND);
                shared.end();
                rebuilder.join().map_err(|_| anyhow!("a thread panicked"))?
            })
        });
        shared.end();
        let read = reader.join().map_err(|_| anyhow!("a thread panicked"))?;
        written?;
        is_wrong_model(read)
    })
}

pub fn last_check(config: &Config) -> Result<()> {
    is_found(config, &[LAST_CHECK, NOTHING], "sku_sales", LOST)
}

pub fn grace_period(config: &Config) -> Result<()> {
    is_found(config, &[LAST_CHECK, GRACE_PERIOD, NOTHING], "sku_sales", LOST)
}

pub fn recheck(config: &Config) -> Result<()> {
    is_found(config, &[RECHECK], "sku_sales", LOST)
}

pub fn skip_record(config: &Config) -> Result<()> {
    is_found(config, &[SKIP_RECORD], "cart", DISORDER)
}

/// None of this is found without a reason.
pub fn waiting(config: &Config) -> Result<()> {
    let client = &mut connect(config)?;
    set_up_published(config)?;
    let sql = "SELECT pg_get_functiondef('append_event(text,text,jsonb)'::regprocedure)";
    let append: String = client.query_one(sql, &[]).map_err(explain)?.try_get(0)?;
    let [skips, waits] = WAITING;
    ensure!(append.contains(skips), "the published protocol reads otherwise:\n{append}");
    for script in [&append.replace(skips, waits), NOTHING] {
        execute(client, script)?;
    }
    let shared = Shared::new(config, 1);
    let found = among_writers(&shared, 2, || find(&shared, "sku_sales", LOST, Duration::from_secs(2)))?;
    ensure!(!found, "something was found");
    Ok(())
}

fn is_found(config: &Config, mend: &[&str], projection: &str, evidence: &str) -> Result<()> {
    set_up_published(config)?;
    let mut client = connect(config)?;
    mend.iter().try_for_each(|script| execute(&mut client, script))?;
    let shared = Shared::new(config, 1);
    let found = among_writers(&shared, 2, || find(&shared, projection, evidence, PATIENCE))?;
    if found { Ok(()) } else { bail!("nothing was found in {PATIENCE:?}") }
}

/// Whether the model is wrong, and for this reason, when a rebuild is over and all that were open then have ended.
fn find(shared: &Shared, projection: &str, evidence: &str, time: Duration) -> Result<bool> {
    let mut client = connect(&shared.config)?;
    let started = Instant::now();
    let mut version = 1;
    let model = Looks::of_the_shop().iter().find(|model| model.name == projection);
    let model = model.ok_or_else(|| anyhow!("there is no {projection}"))?;
    while started.elapsed() < time {
        version = 3 - version;
        match client.batch_execute(&format!("CALL rebuild('{projection}', {version})")) {
            Ok(()) => {}
            Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => continue,
            Err(error) => return Err(explain(error)),
        }
        thread::sleep(ENDED);
        let mut snapshot = client
            .build_transaction()
            .isolation_level(postgres::IsolationLevel::RepeatableRead)
            .start()
            .map_err(explain)?;
        let found = oracle::compare(&mut snapshot, model).map_err(explain)?;
        let evidence = !snapshot.query(evidence, &[]).map_err(explain)?.is_empty();
        let wrong = matches!(found, Found::Wrong(_));
        ensure!(wrong || !evidence, "the oracle finds nothing where there is something: {found:?}");
        if wrong {
            ensure!(evidence, "something else is wrong: {found:?}");
            return Ok(true);
        }
    }
    Ok(false)
}

/// Does something while writers append to so many carts each.
fn among_writers<T>(shared: &Shared, carts: u32, work: impl FnOnce() -> Result<T>) -> Result<T> {
    thread::scope(|scope| {
        let writers: Vec<_> =
            (1..=WRITERS).map(|writer| scope.spawn(move || write(shared, writer, carts))).collect();
        let result = work();
        shared.end_load();
        for writer in writers {
            writer.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        result
    })
}

/// One transaction of a writer.
fn append_once(client: &mut Client, sql: &str, hold: u64, commit: u64) -> Result<(), postgres::Error> {
    client.batch_execute("BEGIN")?;
    let position: i64 = client.query_one(sql, &[])?.try_get(0)?;
    thread::sleep(Duration::from_millis(hold));
    client.query("SELECT before_commit($1)", &[&position])?;
    // What a disk takes, which these servers do not wait for.
    thread::sleep(Duration::from_millis(commit));
    client.batch_execute("COMMIT")
}

/// Transactions that stay open for a moment, of one event each.
fn write(shared: &Shared, writer: u64, carts: u32) -> Result<()> {
    let mut client = connect(&shared.config)?;
    let mut rng = generator(shared.seed, writer);
    while !shared.is_load_over() {
        let cart = rng.random_range(1..=carts);
        let sql = format!(
            r#"SELECT position FROM append_event('cart-{writer}-{cart}', 'item_added', '{{"sku": "sku-{writer}", "qty": 1, "price": 100}}')"#
        );
        let (hold, commit) = (rng.random_range(0..=LONGEST), rng.random_range(0..=COMMIT));
        let appended = append_once(&mut client, &sql, hold, commit);
        match appended {
            Ok(()) => {}
            // With a mend that locks, it may wait for a rebuild that waits for it.
            Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {
                execute(&mut client, "ROLLBACK")?
            }
            Err(error) => return Err(explain(error)),
        }
    }
    Ok(())
}
