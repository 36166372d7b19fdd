//! Read models that are published: what a subscriber has through each kind of rebuild.

use anyhow::{Result, anyhow, ensure};
use postgres::Client;
use postgres::error::SqlState;
use std::sync::atomic::Ordering;

use super::Cases;
use super::pair::{Ongoing, Pair, connect, is_true, run as execute, value};
use crate::crash::case::{close_door, open_door, wait_at_door, wait_for, wait_for_job};
use crate::crash::explain;
use crate::crash::world::expect;

pub const NAMES: &[&str] = &[ATOMIC, REFUSED, MIDWAY, IN_PLACE, ASIDE, CONTROL];
const ATOMIC: &str = "published: an atomic rebuild is one transaction there too";
const REFUSED: &str = "published: a concurrent rebuild is refused";
const MIDWAY: &str = "published: during a concurrent rebuild, which then does not swap";
const IN_PLACE: &str = "published: a rebuild in place is followed step by step";
const ASIDE: &str = "published: taken out for a concurrent rebuild, and copied anew";
const CONTROL: &str = "published: control, a swap that nobody is told of";

const MODELS: &str = include_str!("published.sql");
/// What a subscriber of the models has.
const TABLES: &str =
    "CREATE TABLE cart (cart_id text PRIMARY KEY, items bigint NOT NULL, logic int NOT NULL);
    CREATE TABLE line (stream_id text, stream_version bigint, n bigint NOT NULL, logic int NOT NULL,
                       PRIMARY KEY (stream_id, stream_version))";
const TO_NEW: &str = "SELECT refold.rebuild_projection('cart', 'fold_cart_twice(cart, refold.event)');
    SELECT refold.rebuild_projection('line', 'add_line_twice(refold.event)')";
const TO_OLD: &str = "SELECT refold.rebuild_projection('cart', 'fold_cart(cart, refold.event)');
    SELECT refold.rebuild_projection('line', 'add_line(refold.event)')";
const START_NEW: &str = "SELECT refold.start_rebuild('cart', 'fold_cart_twice(cart, refold.event)')";
const CALL_NEW: &str =
    "CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_twice(cart, refold.event)')";

pub fn run(pair: &Pair, cases: &mut Cases) -> Result<()> {
    cases.case(ATOMIC, || atomic(pair));
    cases.case(REFUSED, || refused(pair));
    cases.case(MIDWAY, || midway(pair));
    cases.case(IN_PLACE, || in_place(pair));
    cases.case(ASIDE, || aside(pair));
    cases.case(CONTROL, || control(pair));
    Ok(())
}

/// A database whose models are published and copied; clients of both sides.
fn create(pair: &Pair, database: &str) -> Result<(Client, Client)> {
    let clients = pair.create(database, MODELS, TABLES)?;
    pair.publish(database, "FOR TABLE cart, line")?;
    pair.subscribe(database, "")?;
    pair.catch_up(database)?;
    Ok(clients)
}

fn content(client: &mut Client) -> Result<(i64, String)> {
    const SQL: &str = "SELECT count(*), md5(coalesce(string_agg(r, ';' ORDER BY r), ''))
        FROM (SELECT c::text FROM cart AS c UNION ALL SELECT l::text FROM line AS l) AS m (r)";
    let row = client.query_one(SQL, &[]).map_err(explain)?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn require_same(pair: &Pair, database: &str) -> Result<()> {
    pair.catch_up(database)?;
    let there = content(&mut connect(pair.publisher, database)?)?;
    let here = content(&mut connect(pair.subscriber, database)?)?;
    ensure!(there == here, "the publisher has {there:?}, the subscriber {here:?}");
    Ok(())
}

/// Appends to old streams and new ones until it is stopped; returns how often.
fn load(pair: &Pair, database: &str) -> Result<Ongoing<i64>> {
    let mut client = connect(pair.publisher, database)?;
    Ok(Ongoing::start(move |stop| {
        let mut appends = 0_i64;
        while !stop.load(Ordering::Relaxed) {
            let sql = format!("SELECT refold.append_event('seed-{}', 'sold', '{{\"n\": 1}}')", appends % 60);
            execute(&mut client, &sql)?;
            appends += 1;
        }
        Ok(appends)
    }))
}

fn atomic(pair: &Pair) -> Result<()> {
    let (mut there, mut here) = create(pair, "atomic")?;
    let load = load(pair, "atomic")?;
    let watcher = Ongoing::start(move |stop| {
        const LOGICS: &str = "SELECT (SELECT array_agg(DISTINCT logic) FROM cart), (SELECT array_agg(DISTINCT logic) FROM line)";
        let mut seen = [0, 0];
        while !stop.load(Ordering::Relaxed) {
            let row = here.query_one(LOGICS, &[]).map_err(explain)?;
            for table in 0..2 {
                match row.try_get::<_, Vec<i32>>(table)?[..] {
                    [1] => seen[0] += 1,
                    [2] => seen[1] += 1,
                    ref logics => return Err(anyhow!("a reader there sees rows by the handlers {logics:?}")),
                }
            }
        }
        Ok(seen)
    });
    for _ in 0..3 {
        for sql in [TO_NEW, TO_OLD] {
            execute(&mut there, sql)?;
            pair.catch_up("atomic")?;
        }
    }
    let [old, new] = watcher.stop()?;
    ensure!(old > 0 && new > 0, "the two models were seen {old} and {new} times");
    ensure!(load.stop()? > 0, "nothing was appended");
    require_same(pair, "atomic")?;
    pair.unsubscribe("atomic")
}

fn refused(pair: &Pair) -> Result<()> {
    let (mut there, _) = pair.create("refused", MODELS, "")?;
    for what in ["FOR TABLE cart", "FOR TABLES IN SCHEMA public", "FOR ALL TABLES"] {
        pair.publish("refused", what)?;
        expect(&mut there, START_NEW, &SqlState::FEATURE_NOT_SUPPORTED)?;
        execute(&mut there, "DROP PUBLICATION refused")?;
    }
    execute(&mut there, CALL_NEW)
}

/// The publication comes when the shadow is full, and the check at the swap finds it.
fn midway(pair: &Pair) -> Result<()> {
    const PLACE: &str = "job: waiting for snapshots";
    const REFUSED: &str =
        "SELECT count(*) > 0 FROM refold.rebuild_jobs WHERE state = 'paused' AND error_sqlstate = '0A000'";
    let (mut there, _) = pair.create("midway", MODELS, TABLES)?;
    let mut doorman = connect(pair.publisher, "midway")?;
    close_door(&mut doorman, PLACE)?;
    execute(&mut there, START_NEW)?;
    wait_at_door(&mut doorman)?;
    pair.publish("midway", "FOR TABLE cart, line")?;
    pair.subscribe("midway", "")?;
    pair.catch_up("midway")?;
    open_door(&mut doorman, PLACE)?;
    wait_for(|| Ok(is_true(&mut there, REFUSED)?.then_some(())))?;
    execute(&mut there, "SELECT refold.append_event('seed-1', 'sold', '{\"n\": 1}')")?;
    require_same(pair, "midway")?;
    let logics: Vec<i32> = value(&mut there, "SELECT array_agg(DISTINCT logic) FROM cart")?;
    ensure!(logics == [1], "the live model has rows by the handlers {logics:?}");
    pair.unsubscribe("midway")?;
    execute(&mut there, "DROP PUBLICATION midway; SELECT refold.resume_rebuild('cart')")?;
    wait_for_job(&mut there)?;
    let logics: Vec<i32> = value(&mut there, "SELECT array_agg(DISTINCT logic) FROM cart")?;
    ensure!(logics == [2], "afterwards the live model has rows by the handlers {logics:?}");
    Ok(())
}

fn in_place(pair: &Pair) -> Result<()> {
    const PLACE: &str = "batch: checkpoint written";
    let (mut there, mut here) = create(pair, "in_place")?;
    let all: i64 = value(&mut here, "SELECT count(*) FROM line")?;
    let mut doorman = connect(pair.publisher, "in_place")?;
    close_door(&mut doorman, PLACE)?;
    execute(
        &mut there,
        "SELECT refold.start_rebuild('line', 'add_line_twice(refold.event)', in_place => true)",
    )?;
    wait_at_door(&mut doorman)?;
    // Readers there have a prefix as well, and nothing that says so.
    require_same(pair, "in_place")?;
    let part: i64 = value(&mut here, "SELECT count(*) FROM line")?;
    ensure!(part < all, "the subscriber has {part} of {all} lines");
    open_door(&mut doorman, PLACE)?;
    wait_for_job(&mut doorman)?;
    require_same(pair, "in_place")?;
    let end: i64 = value(&mut here, "SELECT count(*) FROM line WHERE logic = 2")?;
    ensure!(end == all, "in the end the subscriber has {end} of {all} lines");
    pair.unsubscribe("in_place")
}

fn aside(pair: &Pair) -> Result<()> {
    let (mut there, mut here) = create(pair, "aside")?;
    let load = load(pair, "aside")?;
    execute(&mut there, "ALTER PUBLICATION aside DROP TABLE cart")?;
    execute(&mut here, "ALTER SUBSCRIPTION aside REFRESH PUBLICATION")?;
    execute(&mut there, CALL_NEW)?;
    execute(&mut here, "TRUNCATE cart")?;
    execute(&mut there, "ALTER PUBLICATION aside ADD TABLE cart")?;
    execute(&mut here, "ALTER SUBSCRIPTION aside REFRESH PUBLICATION")?;
    pair.catch_up("aside")?;
    ensure!(load.stop()? > 0, "nothing was appended");
    require_same(pair, "aside")?;
    let logics: Vec<i32> = value(&mut here, "SELECT array_agg(DISTINCT logic) FROM cart")?;
    ensure!(logics == [2], "the subscriber has rows by the handlers {logics:?}");
    pair.unsubscribe("aside")
}

/// The same without the copy: the comparison must find it.
fn control(pair: &Pair) -> Result<()> {
    let (mut there, _) = create(pair, "forgotten")?;
    execute(&mut there, "ALTER PUBLICATION forgotten DROP TABLE cart")?;
    execute(&mut there, CALL_NEW)?;
    execute(&mut there, "ALTER PUBLICATION forgotten ADD TABLE cart")?;
    execute(&mut there, "SELECT refold.append_event('seed-1', 'sold', '{\"n\": 1}')")?;
    ensure!(require_same(pair, "forgotten").is_err(), "the subscriber has got rows that nobody has sent");
    pair.unsubscribe("forgotten")
}
