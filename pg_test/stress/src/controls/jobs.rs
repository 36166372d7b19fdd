//! Rebuild jobs that leave out what their protocol rests on: the model must be found wrong.

use anyhow::{Result, anyhow, bail, ensure};
use postgres::{Client, Config};
use std::thread;
use std::time::{Duration, Instant};

use super::{PATIENCE, append_for, execute};
use crate::oracle::{self, Found, Looks};
use crate::rebuild_plan::wrapper;
use crate::session::{OWNER, explain};
use crate::shared::Shared;
use crate::world::{connect, set_up};

const OLD_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM event_log LIMIT 1";

/// Whether the cart is wrong in the client's snapshot.
fn is_wrong(client: &mut Client) -> Result<bool> {
    let cart = Looks::all().pick(0);
    Ok(matches!(oracle::compare(client, cart).map_err(explain)?, Found::Wrong(_)))
}

/// Until the cart's last job is as `condition` says, which may use `j`.
fn wait_until(client: &mut Client, condition: &str) -> Result<()> {
    let sql = format!("SELECT count(*) FROM refold.rebuild_job j WHERE {condition}");
    let started = Instant::now();
    while client.query_one(&sql, &[]).map_err(explain)?.try_get::<_, i64>(0)? == 0 {
        if started.elapsed() > PATIENCE {
            let jobs = "SELECT coalesce(string_agg(j::text, '\n'), 'none') FROM refold.rebuild_job j";
            let jobs: String = client.query_one(jobs, &[]).map_err(explain)?.try_get(0)?;
            bail!("no job becomes {condition}:\n{jobs}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Some more than there were.
fn append_events(config: &Config, client: &mut Client) -> Result<()> {
    let sql = "SELECT count(*) FROM event_log";
    let mut count = || -> Result<i64> { Ok(client.query_one(sql, &[]).map_err(explain)?.try_get(0)?) };
    let before = count()?;
    for seed in 0.. {
        let added = count()? - before;
        if added >= 20 {
            break;
        }
        // What has happened before is none of its business, and its events need ids of their own.
        append_for(&Shared::new(config, u64::try_from(before)? * 1000 + seed), Duration::from_millis(300))?;
    }
    Ok(())
}

/// The shadow's handler fails in appends, and nobody remembers: what it could not take is missing after the swap.
pub fn forgotten_failure(config: &Config) -> Result<()> {
    set_up(config)?;
    let (mut client, mut owner) = (connect(config)?, connect(config.clone().user(OWNER))?);
    execute(
        &mut client,
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER forgets BEFORE INSERT ON refold.mirror_failure FOR EACH ROW EXECUTE FUNCTION forget()",
    )?;
    let fails =
        "IF event.event_type = 'voucher_given' AND current_setting('application_name') LIKE '%Appender'
        THEN RAISE 'on purpose' USING ERRCODE = 'ST001'; END IF;";
    execute(&mut owner, &wrapper("cart", "cart_job_fails", 1, fails))?;
    let shared = &Shared::new(config, 1);
    thread::scope(|scope| {
        let appends = scope.spawn(|| append_for(shared, Duration::from_millis(2500)));
        // The mirroring goes on for some time.
        let mut reader = connect(config)?;
        thread::sleep(Duration::from_millis(300));
        execute(&mut reader, OLD_SNAPSHOT)?;
        execute(&mut owner, "SELECT refold.start_rebuild('cart', 'cart_job_fails(cart,refold.event)')")?;
        wait_until(&mut client, "j.phase = 'waiting for snapshots'")?;
        thread::sleep(Duration::from_millis(1200));
        ensure!(!is_wrong(&mut reader)?, "the model is wrong before the swap");
        execute(&mut reader, "COMMIT")?;
        wait_until(&mut client, "j.state = 'done'")?;
        appends.join().map_err(|_| anyhow!("a thread panicked"))?
    })?;
    ensure!(is_wrong(&mut client)?, "the oracle did not find it");
    Ok(())
}

/// A swap while a snapshot is left that is older than the flip: it sees nothing of what the replay has written.
pub fn hasty_swap(config: &Config) -> Result<()> {
    set_up(config)?;
    let (mut client, mut owner) = (connect(config)?, connect(config.clone().user(OWNER))?);
    let shared = &Shared::new(config, 1);
    append_for(shared, Duration::from_millis(300))?;
    let mut reader = connect(config)?;
    execute(&mut reader, OLD_SNAPSHOT)?;
    execute(&mut owner, "SELECT refold.start_rebuild('cart', 'cart_v2(cart,refold.event)')")?;
    wait_until(&mut client, "j.phase = 'waiting for snapshots'")?;
    execute(&mut owner, "SELECT refold.pause_rebuild('cart')")?;
    execute(&mut client, "UPDATE refold.rebuild_job SET phase = 'swapping'")?;
    execute(&mut owner, "SELECT refold.resume_rebuild('cart')")?;
    wait_until(&mut client, "j.state = 'done'")?;
    ensure!(!is_wrong(&mut client)?, "the model is wrong in a new snapshot, too");
    ensure!(is_wrong(&mut reader)?, "the oracle did not find it");
    Ok(())
}

/// An event that was left out, and is back after a rebuild that does not know of it.
pub fn forgotten_skip(config: &Config) -> Result<()> {
    set_up(config)?;
    let (mut client, mut owner) = (connect(config)?, connect(config.clone().user(OWNER))?);
    append_events(config, &mut client)?;
    execute(
        &mut owner,
        "SELECT refold.skip_event('cart', e.position, 'on purpose'), note_skip('cart', e.position)
         FROM (SELECT max(position) AS position FROM event_log) e",
    )?;
    ensure!(!is_wrong(&mut client)?, "the live model should still have the event");
    let rebuild = "SELECT refold.rebuild_projection('cart')";
    execute(&mut owner, rebuild)?;
    ensure!(!is_wrong(&mut client)?, "the event was not left out");
    execute(&mut client, "DELETE FROM refold.skipped_event")?;
    execute(&mut owner, rebuild)?;
    ensure!(is_wrong(&mut client)?, "the oracle did not find it");
    Ok(())
}

/// A rebuild in place that ends without the gate: events that appends have skipped are not replayed. And while it goes
/// on, tables that hold another prefix of the log than the job says.
pub fn open_gate(config: &Config) -> Result<()> {
    set_up(config)?;
    let (mut client, mut owner) = (connect(config)?, connect(config.clone().user(OWNER))?);
    // No position between is free: a prefix that is one position longer has an event more.
    let append =
        "SELECT refold.append_event('one', 'item_added', '{\"sku\": \"sku-1\", \"qty\": 1, \"price\": 99}')
                    FROM generate_series(1, 10)";
    execute(&mut client, append)?;
    // A gap makes the log long enough for batches.
    execute(&mut client, "SELECT setval('refold.event_position_seq', 2000)")?;
    execute(&mut client, append)?;
    let stops = "IF event.position > 2008 THEN RAISE 'on purpose'; END IF;";
    execute(&mut owner, &wrapper("cart", "cart_job_stops", 1, stops))?;
    execute(
        &mut owner,
        "SELECT refold.start_rebuild('cart', 'cart_job_stops(cart,refold.event)', in_place => true)",
    )?;
    wait_until(&mut client, "j.state = 'paused' AND j.checkpoint > 0")?;
    ensure!(!is_wrong(&mut client)?, "the prefix is wrong");
    execute(&mut client, "UPDATE refold.rebuild_job SET checkpoint = checkpoint - 1")?;
    ensure!(is_wrong(&mut client)?, "the oracle did not find a prefix that is too long");
    execute(&mut client, "UPDATE refold.rebuild_job SET checkpoint = checkpoint + 1")?;
    execute(&mut client, append)?;
    ensure!(!is_wrong(&mut client)?, "an append has written to the prefix");
    // Another definition: back to the beginning, and paused before it has emptied the tables.
    execute(&mut owner, &wrapper("cart", "cart_job_stops", 1, ""))?;
    execute(&mut owner, "SELECT refold.resume_rebuild('cart'), refold.pause_rebuild('cart')")?;
    wait_until(&mut client, "j.state = 'paused' AND j.phase = 'emptying'")?;
    ensure!(!is_wrong(&mut client)?, "the prefix is another");
    execute(&mut client, "UPDATE back_note SET checkpoint = checkpoint - 1")?;
    ensure!(
        is_wrong(&mut client)?,
        "the oracle did not find a prefix that is too long, of a job that begins again"
    );
    execute(
        &mut client,
        "UPDATE refold.projection SET mode = 'active' WHERE name = 'cart'; UPDATE refold.rebuild_job SET state = 'done'",
    )?;
    ensure!(is_wrong(&mut client)?, "the oracle did not find the events that were skipped");
    Ok(())
}
