//! What must not come into a subscriber's store: it is refused, and says so in the server's log as long as it goes on.

use anyhow::{Context, Result, ensure};
use postgres::Client;
use regex::Regex;
use std::fs;

use super::Cases;
use super::logical::{ORACLE, PROJECTIONS, SUBSCRIBER, append};
use super::pair::{Pair, connect, failures, require_none, run as execute, value};
use crate::crash::case::wait_for;

pub const NAMES: &[&str] = &[USED, POSITIONS, REGISTRY, STREAM, CHANGE, PARALLEL];
const USED: &str = "logical: a log is not copied into a store that was used";
const POSITIONS: &str = "logical: a log is not copied without its positions";
const REGISTRY: &str = "logical: the registry is not replicated";
const STREAM: &str = "logical: a stream that was appended to on both sides";
const CHANGE: &str = "logical: events are not changed, deleted or truncated";
const PARALLEL: &str = "logical: transactions that come in parts, one after the other and side by side";

pub fn run(pair: &Pair, cases: &mut Cases) -> Result<()> {
    cases.case(USED, || used(pair));
    cases.case(POSITIONS, || positions(pair));
    cases.case(REGISTRY, || registry(pair));
    cases.case(STREAM, || stream(pair));
    cases.case(CHANGE, || change(pair));
    cases.case(PARALLEL, || parallel(pair));
    Ok(())
}

const LOG: &str = "FOR TABLE refold.event WITH (publish = 'insert')";

/// What the server's log says last of an error with this message: its DETAIL, HINT and CONTEXT lines too.
fn told(pair: &Pair, message: &str) -> Result<String> {
    let log = fs::read_to_string(pair.subscriber.log_file())?;
    let at = log
        .rfind(&format!("ERROR:  {message}"))
        .with_context(|| format!("the log does not say {message:?}"))?;
    Ok(log[at..].lines().take(5).collect::<Vec<_>>().join("\n"))
}

fn wait_for_failures(client: &mut Client, applying: bool) -> Result<()> {
    wait_for(|| {
        let (apply, sync) = failures(client)?;
        Ok(((if applying { apply } else { sync }) > 1).then_some(()))
    })
}

fn used(pair: &Pair) -> Result<()> {
    let (mut there, mut here) = pair.create("used", SUBSCRIBER, SUBSCRIBER)?;
    execute(&mut there, &append("a", "sold", 1))?;
    execute(&mut here, &append("b", "sold", 1))?;
    pair.publish("used", LOG)?;
    pair.subscribe("used", "")?;
    wait_for_failures(&mut here, false)?;
    told(pair, "rows cannot be inserted into refold.event directly")?;
    ensure!(value::<i64>(&mut here, "SELECT count(*) FROM refold.event")? == 1, "the logs were mixed");
    pair.unsubscribe("used")?;
    // The way out: a new store.
    execute(&mut here, "DROP EXTENSION refold CASCADE; CREATE EXTENSION refold")?;
    pair.subscribe("used", "")?;
    pair.catch_up("used")?;
    let streams: Vec<String> = value(&mut here, "SELECT array_agg(stream_id) FROM refold.event")?;
    ensure!(streams == ["a"], "the new store has {streams:?}");
    pair.unsubscribe("used")
}

/// The heap's order is not the log's: a page that was freed is filled again.
fn positions(pair: &Pair) -> Result<()> {
    const COLUMNS: &str =
        "(stream_id, stream_version, event_type, data, metadata, event_id, recorded_at, horizon)";
    let (mut there, mut here) = pair.create("positions", SUBSCRIBER, SUBSCRIBER)?;
    // Rolled back, then freed: what comes next lies before the first event.
    execute(&mut there, "SELECT refold.open_store()")?;
    execute(&mut there, &format!("BEGIN; {}; ROLLBACK", vec![append("a", "sold", 1); 100].join("; ")))?;
    execute(&mut there, &vec![append("a", "sold", 1); 100].join("; "))?;
    execute(&mut there, "VACUUM refold.event")?;
    execute(&mut there, &vec![append("a", "sold", 1); 50].join("; "))?;
    let misplaced = "SELECT count(*) FROM (SELECT ctid < lag(ctid) OVER (ORDER BY position) AS is FROM refold.event) AS e WHERE e.is";
    ensure!(value::<i64>(&mut there, misplaced)? > 0, "the heap has the log's order: nothing is shown");
    pair.publish("positions", &format!("FOR TABLE refold.event {COLUMNS} WITH (publish = 'insert')"))?;
    pair.subscribe("positions", "")?;
    wait_for_failures(&mut here, false)?;
    told(pair, "events must be copied with their positions")?;
    ensure!(value::<i64>(&mut here, "SELECT count(*) FROM refold.event")? == 0, "the log was copied");
    // The way out.
    execute(&mut there, "ALTER PUBLICATION positions SET TABLE refold.event")?;
    pair.catch_up("positions")?;
    let order = "SELECT array_agg(stream_version ORDER BY position) = array_agg(stream_version ORDER BY stream_version) FROM refold.event";
    ensure!(value::<bool>(&mut here, order)?, "the versions are not in the order of the positions");
    pair.unsubscribe("positions")
}

/// FOR ALL TABLES: neither the copy nor what comes later gets into the registry, the log does.
fn registry(pair: &Pair) -> Result<()> {
    const REGISTRY: &str = "SELECT concat_ws(' ', (SELECT installation_id FROM refold.installation),
        (SELECT count(*) FROM refold.projection), (SELECT count(*) FROM refold.projection_table))";
    const MESSAGE: &str = "refold's registry must not be replicated";
    const CREATE: &str = "SELECT refold.create_projection('cart', 'fold_cart(cart, refold.event)')";
    let (mut there, mut here) = pair.create("registry", SUBSCRIBER, SUBSCRIBER)?;
    execute(&mut there, &append("a", "sold", 1))?;
    let before: String = value(&mut here, REGISTRY)?;
    pair.publish("registry", "FOR ALL TABLES")?;
    pair.subscribe("registry", "")?;
    wait_for_failures(&mut here, false)?;
    told(pair, MESSAGE)?;
    pair.unsubscribe("registry")?;
    pair.subscribe("registry", ", copy_data = false")?;
    execute(&mut there, CREATE)?;
    wait_for_failures(&mut here, true)?;
    let told = told(pair, MESSAGE)?;
    ensure!(told.contains("HINT:"), "{told}");
    let after: String = value(&mut here, REGISTRY)?;
    ensure!(before == after, "the registry was {before} and is {after}");
    pair.unsubscribe("registry")
}

/// The subscription stops at the publisher's event, whose transaction can be passed over.
fn stream(pair: &Pair) -> Result<()> {
    let (mut there, mut here) = pair.create("two_writers", SUBSCRIBER, SUBSCRIBER)?;
    pair.publish("two_writers", LOG)?;
    pair.subscribe("two_writers", ", copy_data = false")?;
    // One stream each: that is allowed.
    execute(&mut here, &append("here", "sold", 1))?;
    for n in 1..=2 {
        execute(&mut there, &append("there", "sold", n))?;
    }
    pair.catch_up("two_writers")?;
    execute(&mut here, &append("there", "sold", 3))?;
    execute(&mut there, &append("there", "sold", 3))?;
    wait_for_failures(&mut here, true)?;
    let told = told(pair, "the replicated event is not the next of stream \"there\"")?;
    ensure!(told.contains("at version 3 here, and version 3 comes"), "{told}");
    let finished = Regex::new("finished at ([0-9A-F/]+)")?;
    let lsn =
        finished.captures(&told).and_then(|found| found.get(1)).context("the log does not tell where")?;
    execute(&mut here, &format!("ALTER SUBSCRIPTION two_writers SKIP (lsn = '{}')", lsn.as_str()))?;
    execute(&mut there, &append("there", "sold", 4))?;
    pair.catch_up("two_writers")?;
    // A publication that leaves events of a stream out stops it as well.
    execute(
        &mut there,
        "ALTER PUBLICATION two_writers SET TABLE refold.event WHERE (event_type <> 'secret')",
    )?;
    execute(&mut there, &append("there", "secret", 5))?;
    execute(&mut there, &append("there", "sold", 6))?;
    let (before, _) = failures(&mut here)?;
    wait_for(|| Ok((failures(&mut here)?.0 > before).then_some(())))?;
    let versions: Vec<i64> = value(
        &mut here,
        "SELECT array_agg(stream_version ORDER BY position) FROM refold.event WHERE stream_id = 'there'",
    )?;
    ensure!(versions == [1, 2, 3, 4], "the stream has the versions {versions:?}");
    pair.unsubscribe("two_writers")
}

/// The publisher's table looks like a log, and is none.
fn change(pair: &Pair) -> Result<()> {
    const TABLE: &str = "CREATE SCHEMA refold;
        CREATE TABLE refold.event (position bigint PRIMARY KEY, stream_id text, stream_version bigint, event_type text, data jsonb,
                                   metadata jsonb, event_id uuid, recorded_at timestamptz, horizon xid8);";
    let (mut there, mut here) = pair.create("change", TABLE, SUBSCRIBER)?;
    pair.publish("change", "FOR TABLE refold.event")?;
    pair.subscribe("change", ", copy_data = false")?;
    let insert =
        "INSERT INTO refold.event VALUES (900, 'a', 1, 't', '{}', '{}', gen_random_uuid(), now(), '900')";
    execute(&mut there, insert)?;
    pair.catch_up("change")?;
    ensure!(
        value::<i64>(&mut here, "SELECT position FROM refold.event")? == 1,
        "the event has not got a place of its own"
    );
    // A worker finds the row that is to be changed by its position.
    execute(&mut there, "UPDATE refold.event SET position = 1")?;
    pair.unsubscribe("change")?;
    for sql in
        ["UPDATE refold.event SET event_type = 'u'", "DELETE FROM refold.event", "TRUNCATE refold.event"]
    {
        pair.subscribe("change", ", copy_data = false")?;
        execute(&mut there, sql)?;
        wait_for_failures(&mut here, true).with_context(|| sql.to_owned())?;
        told(pair, "refold.event is append-only")?;
        ensure!(
            value::<i64>(&mut here, "SELECT count(*) FROM refold.event WHERE event_type = 't'")? == 1,
            "{sql} came through"
        );
        pair.unsubscribe("change")?;
    }
    Ok(())
}

/// A transaction so large that it is sent before it ends, and one that comes between its parts and feeds the same rows.
fn parallel(pair: &Pair) -> Result<()> {
    const LARGE: &str = "SELECT refold.append_event('large', 'sold', jsonb_build_object('n', n, 'sku', 'sku-1', 'note',
        (SELECT string_agg(md5(concat(n, i)), '') FROM generate_series(1, 100) AS i))) FROM generate_series(1, 100) AS n";
    let (mut there, mut here) = pair.create("parts", SUBSCRIBER, SUBSCRIBER)?;
    // The first append holds the gate of a store that is not open.
    execute(&mut there, "SELECT refold.open_store()")?;
    execute(&mut here, PROJECTIONS)?;
    pair.publish("parts", LOG)?;
    pair.subscribe("parts", ", copy_data = false")?;
    let between = |there: &mut Client| -> Result<()> {
        let mut other = connect(pair.publisher, "parts")?;
        execute(there, &format!("BEGIN; {LARGE}"))?;
        execute(&mut other, &append("small", "sold", 1))?;
        execute(there, &format!("{LARGE}; COMMIT"))
    };
    between(&mut there)?;
    pair.catch_up("parts")?;
    require_none(&mut here, "not what the log says", ORACLE)?;
    ensure!(value::<i64>(&mut here, "SELECT count(*) FROM refold.event")? == 201, "events are missing");
    if value::<i32>(&mut here, "SELECT current_setting('server_version_num')::int")? < 160_000 {
        return pair.unsubscribe("parts");
    }
    execute(&mut here, "ALTER SUBSCRIPTION parts SET (streaming = parallel)")?;
    between(&mut there)?;
    wait_for_failures(&mut here, true)?;
    told(pair, "events cannot be applied by parallel workers of a subscription")?;
    execute(&mut here, "ALTER SUBSCRIPTION parts SET (streaming = on)")?;
    pair.catch_up("parts")?;
    require_none(&mut here, "not what the log says", ORACLE)?;
    ensure!(value::<i64>(&mut here, "SELECT count(*) FROM refold.event")? == 402, "events are missing");
    pair.unsubscribe("parts")
}
