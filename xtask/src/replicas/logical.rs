//! The log itself is published, and the subscriber keeps up projections of its own. What it promises is what any store does:
//! in each snapshot a model is the fold of the events of this log that the snapshot sees.

use anyhow::{Context, Result, bail, ensure};
use postgres::Client;
use std::sync::atomic::Ordering;

use super::Cases;
use super::pair::{Ongoing, Pair, connect, failures, require_none, run as execute, value};
use crate::crash::case::{close_door, wait_at_door, wait_for, wait_for_job};
use crate::crash::explain;

pub const NAMES: &[&str] = &[REBUILDS, HANDLER, KILLED, PROMOTED, CONTROL];
const REBUILDS: &str = "logical: models of the subscriber's own, under load, through every kind of rebuild";
const HANDLER: &str = "logical: a handler of the subscriber's fails, and is mended";
const KILLED: &str = "logical: the worker is killed at each phase";
const PROMOTED: &str = "logical: the subscriber becomes the writer";
const CONTROL: &str = "logical: control, events that no trigger applies";

pub const SUBSCRIBER: &str = include_str!("subscriber.sql");
pub const PROJECTIONS: &str = include_str!("projections.sql");
pub const ORACLE: &str = include_str!("oracle.sql");
/// The publisher has one of the four models, by another handler: it orders the appends to one stream and no others.
const PUBLISHER: &str = "CREATE EXTENSION refold;
    CREATE TABLE seen (stream_id text PRIMARY KEY, events bigint NOT NULL);
    CREATE FUNCTION fold_seen(state seen, event refold.event) RETURNS seen LANGUAGE sql AS
      'SELECT ROW(event.stream_id, coalesce(state.events, 0) + 1)::seen';
    SELECT refold.create_projection('seen', 'fold_seen(seen, refold.event)')";
/// Streams that take turns, so that a stream's rows do not lie one after the other in the table that is copied.
const SEED: &str = "SELECT refold.append_events(format('seed-%s', s),
    (SELECT jsonb_agg(jsonb_build_object('type', 'sold', 'data', jsonb_build_object('n', n, 'sku', format('sku-%s', (n + s) % 3))))
       FROM generate_series(1, 6) AS n)) FROM generate_series(1, 10) AS t, generate_series(1, 10) AS s";
const LOADS: usize = 3;

pub fn run(pair: &Pair, cases: &mut Cases, kills: &mut usize) -> Result<()> {
    cases.case(REBUILDS, || rebuilds(pair));
    cases.case(HANDLER, || handler(pair));
    cases.case(KILLED, || killed(pair, kills));
    cases.case(PROMOTED, || promoted(pair));
    cases.case(CONTROL, || control(pair));
    Ok(())
}

/// A log that is copied and followed, and the subscriber's projections; clients of both sides.
fn create(pair: &Pair, database: &str) -> Result<(Client, Client)> {
    let (mut there, mut here) = pair.create(database, PUBLISHER, SUBSCRIBER)?;
    execute(&mut there, SEED)?;
    pair.publish(database, "FOR TABLE refold.event WITH (publish = 'insert')")?;
    pair.subscribe(database, "")?;
    pair.catch_up(database)?;
    execute(&mut here, PROJECTIONS)?;
    Ok((there, here))
}

pub fn append(stream: &str, event_type: &str, n: usize) -> String {
    format!(
        "SELECT refold.append_event('{stream}', '{event_type}', '{{\"n\": {n}, \"sku\": \"sku-{}\"}}')",
        n % 3
    )
}

/// Transactions of two appends each, to streams of its own, which wait before they end: several are open at a time, and
/// they end in another order than they have drawn their positions in. One in five is rolled back.
fn load(pair: &Pair, database: &str, number: usize) -> Result<Ongoing<()>> {
    let mut client = connect(pair.publisher, database)?;
    Ok(Ongoing::start(move |stop| {
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            let (first, second) = (
                append(&format!("load-{number}-a"), "sold", n),
                append(&format!("load-{number}-b"), "sold", n + 1),
            );
            let wait = 0.002 * ((n + number) % 4) as f64;
            let end = if n % 5 == 4 { "ROLLBACK" } else { "COMMIT" };
            execute(&mut client, &format!("BEGIN; {first}; SELECT pg_sleep({wait}); {second}; {end}"))?;
            n += 1;
        }
        Ok(())
    }))
}

fn require_sound(client: &mut Client) -> Result<()> {
    require_none(client, "not what the log says", ORACLE)?;
    require_none(
        client,
        "differs from a fresh fold",
        "SELECT p.name || ' ' || v.key::text FROM refold.projections AS p, refold.verify_projection(p.name) AS v",
    )?;
    require_none(
        client,
        "not active",
        "SELECT name || ' ' || state FROM refold.projections WHERE state <> 'active'",
    )
}

/// Each event by all that is the publisher's, in the order of the log.
fn log(client: &mut Client) -> Result<Vec<String>> {
    let sql = "SELECT concat_ws(' ', event_id, stream_id, stream_version, event_type, data, metadata, recorded_at AT TIME ZONE 'UTC')
                 FROM refold.event ORDER BY position";
    let rows = client.query(sql, &[]).map_err(explain)?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Both logs have the same events; returns whether in the same order.
fn require_same_events(pair: &Pair, database: &str) -> Result<bool> {
    pair.catch_up(database)?;
    let mut there = log(&mut connect(pair.publisher, database)?)?;
    let mut here = log(&mut connect(pair.subscriber, database)?)?;
    let same_order = there == here;
    there.sort_unstable();
    here.sort_unstable();
    ensure!(there == here, "the publisher's log has {} events, the subscriber's {}", there.len(), here.len());
    Ok(same_order)
}

fn rebuilds(pair: &Pair) -> Result<()> {
    const DATABASE: &str = "followed";
    let (mut there, mut here) = pair.create(DATABASE, PUBLISHER, SUBSCRIBER)?;
    execute(&mut there, SEED)?;
    pair.publish(DATABASE, "FOR TABLE refold.event WITH (publish = 'insert')")?;
    let loads = (0..LOADS).map(|number| load(pair, DATABASE, number)).collect::<Result<Vec<_>>>()?;
    // Events are being appended while the log is copied.
    pair.subscribe(DATABASE, "")?;
    pair.catch_up(DATABASE)?;
    execute(&mut here, PROJECTIONS)?;

    let mut client = connect(pair.subscriber, DATABASE)?;
    let watcher = Ongoing::start(move |stop| {
        let mut looks = 0;
        while !stop.load(Ordering::Relaxed) {
            require_none(&mut client, "a snapshot sees", ORACLE)?;
            looks += 1;
        }
        Ok(looks)
    });
    let mut client = connect(pair.subscriber, DATABASE)?;
    let follower = Ongoing::start(move |stop| {
        let mut positions: Vec<i64> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            follow(&mut client, &mut positions)?;
        }
        Ok((client, positions))
    });
    for sql in [
        "SELECT refold.rebuild_projection('sku', 'fold_sku_new(sku, refold.event)')",
        "CALL refold.rebuild_projection_concurrently('cart', 'fold_cart_new(cart, refold.event)', verify => true)",
        "CALL refold.rebuild_projection_concurrently('tally', 'add_tally_twice(refold.event[])', in_place => true)",
        "CALL refold.rebuild_projection_concurrently('journal', 'note_new(refold.event)', grace => '1 hour')",
        "CALL refold.rebuild_projection_concurrently('sku', 'fold_sku(sku, refold.event)')",
        "SELECT refold.rebuild_projection('cart', 'fold_cart(cart, refold.event)')",
        "SELECT refold.rebuild_projection('tally', 'add_tally(refold.event[])')",
        "SELECT refold.rollback_projection('journal')",
    ] {
        let before: i64 = value(&mut here, "SELECT count(*) FROM refold.event")?;
        execute(&mut here, sql)?;
        // The next one begins when the log has grown.
        wait_for(|| {
            let now: i64 = value(&mut here, "SELECT count(*) FROM refold.event")?;
            Ok((now > before + 20).then_some(()))
        })?;
    }
    wait_for_job(&mut here)?;
    for load in loads {
        load.stop()?;
    }
    let same_order = require_same_events(pair, DATABASE)?;
    // Or the load is none that shows anything.
    ensure!(!same_order, "all transactions have ended in the order of their positions");
    ensure!(watcher.stop()? > 0, "nobody has looked");
    let (mut client, mut positions) = follower.stop()?;
    follow(&mut client, &mut positions)?;
    let all: Vec<i64> = value(&mut here, "SELECT array_agg(position ORDER BY position) FROM refold.event")?;
    ensure!(positions == all, "a follower got {} events, and the log has {}", positions.len(), all.len());
    require_sound(&mut here)?;
    pair.unsubscribe(DATABASE)
}

/// What read_all has more.
fn follow(client: &mut Client, positions: &mut Vec<i64>) -> Result<()> {
    let last = positions.last().copied().unwrap_or_default();
    for row in client.query("SELECT position FROM refold.read_all($1)", &[&last]).map_err(explain)? {
        positions.push(row.try_get(0)?);
    }
    Ok(())
}

fn handler(pair: &Pair) -> Result<()> {
    const MENDED: &str = "SELECT concat(state.history || ',', event.data->>'n')";
    let (mut there, mut here) = create(pair, "handler")?;
    let replace = |body: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT ROW(event.stream_id, {body})::cart
$$"
        )
    };
    execute(&mut here, &replace("concat(state.history || ',', 1 / (event.data->>'n')::int)"))?;
    let before = log(&mut here)?;
    execute(&mut there, &append("seed-1", "sold", 0))?;
    execute(&mut there, &append("seed-2", "sold", 7))?;
    // It tries again and again, and nothing comes in meanwhile.
    wait_for(|| Ok((failures(&mut here)?.0 > 1).then_some(())))?;
    ensure!(log(&mut here)? == before, "the log has grown past an event that could not be applied");
    require_none(&mut here, "not what the log says", ORACLE)?;
    execute(&mut here, &replace(MENDED.trim_start_matches("SELECT ")))?;
    require_same_events(pair, "handler")?;
    require_sound(&mut here)?;
    pair.unsubscribe("handler")
}

/// Where the worker stands when it is killed; and what is killed.
const PLACES: [(&str, bool); 3] = [
    ("append: positions drawn", false),
    ("append: inserted", true),
    ("append: one projection applied", false),
];

fn killed(pair: &Pair, kills: &mut usize) -> Result<()> {
    let (mut there, here) = create(pair, "killed")?;
    drop(here);
    for (number, (place, backend)) in PLACES.into_iter().enumerate() {
        let mut doorman = connect(pair.subscriber, "killed")?;
        close_door(&mut doorman, place)?;
        execute(
            &mut there,
            &format!(
                "BEGIN; {}; {}; COMMIT",
                append("seed-1", "sold", number),
                append("new", "sold", number)
            ),
        )?;
        let worker = wait_at_door(&mut doorman).with_context(|| place.to_owned())?;
        if backend {
            ensure!(pair.subscriber.kill_backend(worker)?, "process {worker} is not the server's");
            *kills += 1;
            pair.subscriber.wait_until_recovered()?;
        } else {
            pair.subscriber.kill_postmaster()?;
            pair.subscriber.restart()?;
        }
        require_same_events(pair, "killed").with_context(|| place.to_owned())?;
        require_sound(&mut connect(pair.subscriber, "killed")?).with_context(|| place.to_owned())?;
    }
    pair.unsubscribe("killed")
}

fn promoted(pair: &Pair) -> Result<()> {
    const LAST: &str = "SELECT max(position) FROM refold.event";
    let (mut there, mut here) = create(pair, "promoted")?;
    execute(&mut there, &append("seed-1", "sold", 1))?;
    require_same_events(pair, "promoted")?;
    pair.unsubscribe("promoted")?;
    let before: i64 = value(&mut here, LAST)?;
    let sql = "SELECT position FROM refold.append_event('seed-1', 'sold', '{\"n\": 2, \"sku\": \"sku-1\"}', expected_version => 61)";
    let position: i64 = value(&mut here, sql)?;
    ensure!(position > before, "position {position} comes after {before}");
    let horizons = "SELECT count(*) FROM refold.event WHERE horizon > pg_snapshot_xmax(pg_current_snapshot()) AND position > (SELECT final_position FROM refold.installation)";
    ensure!(value::<i64>(&mut here, horizons)? == 0, "events have horizons of another server");
    execute(&mut here, "SELECT refold.rebuild_projection(name) FROM refold.projections")?;
    require_sound(&mut here)
}

/// Events that come as ordinary rows: the oracle must find that the models lack them.
fn control(pair: &Pair) -> Result<()> {
    let (mut there, mut here) = pair.create("untold", PUBLISHER, SUBSCRIBER)?;
    execute(&mut here, PROJECTIONS)?;
    execute(
        &mut here,
        "ALTER TABLE refold.event DISABLE TRIGGER admit_replicated, DISABLE TRIGGER apply_replicated",
    )?;
    pair.publish("untold", "FOR TABLE refold.event WITH (publish = 'insert')")?;
    pair.subscribe("untold", ", copy_data = false")?;
    execute(&mut there, &append("seed-1", "sold", 1))?;
    require_same_events(pair, "untold")?;
    if require_none(&mut here, "not what the log says", ORACLE).is_ok() {
        bail!("the oracle has found nothing");
    }
    pair.unsubscribe("untold")
}
