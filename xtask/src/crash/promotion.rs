//! The primary is lost, amid jobs and a rebuild, and the standby takes its place.

use anyhow::{Context, Result, ensure};

use super::case::{Running, at_doors, close_door, wait_for, wait_for_job};
use super::checks;
use super::standby::Pair;
use super::world::explain;

/// Each stands at its place when the primary dies: a job that mirrors, an atomic rebuild whose copy is full, a job that
/// builds, one in place whose model is short.
const PARKED: [(&str, &str); 4] = [
    ("job: waiting for snapshots", "SELECT refold.start_rebuild('visit', 'add_visit_twice(refold.event)')"),
    ("build: log replayed", "SELECT refold.rebuild_projection('extra')"),
    (
        "in place: gate closed",
        "SELECT refold.start_rebuild('sale', 'add_sales_twice(refold.event[])', in_place => true)",
    ),
    (
        "batch: checkpoint written",
        "SELECT refold.start_rebuild('cart', 'fold_cart_twice(cart, refold.event)')",
    ),
];
const STATES: &str = "SELECT string_agg(name || ' ' || state, ', ' ORDER BY name) FROM refold.projections";

pub fn run(pair: Pair) -> Result<()> {
    let mut doorman = pair.world.connect_passing()?;
    let create = "SELECT refold.create_projection('extra', 'fold_extra(extra, refold.event)')";
    doorman.batch_execute(create).map_err(explain)?;
    let mut sessions = Vec::new();
    for (place, sql) in PARKED {
        close_door(&mut doorman, place)?;
        sessions.push(Running::start(pair.world.connect()?, sql.to_owned()));
        let count = sessions.len();
        wait_for(|| Ok((at_doors(&mut doorman)?.len() == count).then_some(())))
            .with_context(|| format!("waiting for somebody at \"{place}\""))?;
    }
    pair.catch_up()?;
    pair.world.server.kill_postmaster()?;
    for session in sessions {
        // Those that have started a job have got their answer.
        session.join()?.ok();
    }

    let mut world = pair.world.moved_to(pair.standby);
    let mut client = world.connect_passing()?;
    client.batch_execute("SELECT pg_promote()").map_err(explain)?;
    let states: String = client.query_one(STATES, &[]).map_err(explain)?.try_get(0)?;
    let expected = "cart rebuilding, extra active, sale rebuilding, visit rebuilding";
    ensure!(states == expected, "the projections are: {states}");
    for stream in ["seed-3", "early", "promoted"] {
        world.append(&mut client, stream, 3)?;
    }
    for sql in [
        "SELECT refold.cancel_rebuild('visit')",
        "SELECT refold.resume_rebuild('cart')",
        "SELECT refold.resume_rebuild('sale')",
    ] {
        client.batch_execute(sql).map_err(explain).with_context(|| sql.to_owned())?;
        world.append(&mut client, "seed-3", 1)?;
    }
    wait_for_job(&mut client)?;
    let handlers = "SELECT string_agg(handler, ', ' ORDER BY name) FROM refold.projections";
    let handlers: String = client.query_one(handlers, &[]).map_err(explain)?.try_get(0)?;
    let expected = "fold_cart_twice(cart,refold.event), fold_extra(extra,refold.event), \
                    add_sales_twice(refold.event[]), add_visit(refold.event)";
    ensure!(handlers == expected, "the handlers are: {handlers}");
    let shadows = "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^refold_(shadow|copy)_'";
    let shadows: i64 = client.query_one(shadows, &[]).map_err(explain)?.try_get(0)?;
    ensure!(shadows == 0, "{shadows} schemas of shadows and copies are left");
    client.close().map_err(explain)?;
    checks::check(&mut world)?;
    checks::rebuild_all(&world)?;
    checks::check(&mut world)
}
