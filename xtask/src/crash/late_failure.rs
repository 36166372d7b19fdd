//! An append that cannot be mirrored, when the worker is about to swap: the last moment at which there can be one.

use anyhow::{Context, Result, ensure};

use super::case::{close_door, open_door, wait_at_door, wait_for_job};
use super::checks;
use super::ledger::Fate;
use super::standby::TO_OLD;
use super::world::{World, append_sql, explain};

pub const NAME: &str = "an append that cannot be mirrored, before the tables are locked for the swap";
const PLACE: &str = "job: about to lock the tables";
/// Takes every event in a replay.
const HANDLER: &str =
    "CREATE OR REPLACE FUNCTION fold_cart_unlucky(state cart, event refold.event) RETURNS cart
    LANGUAGE plpgsql AS $$
    BEGIN
      IF current_setting('application_name') = 'unlucky' THEN RAISE 'unlucky'; END IF;
      RETURN fold_cart_twice(state, event);
    END $$";
const START: &str = "SELECT refold.start_rebuild('cart', 'fold_cart_unlucky(cart, refold.event)')";

/// The append goes through, the swap does not: the job begins anew, and then the new model has the event.
pub fn run(world: &mut World) -> Result<()> {
    let mut doorman = world.connect_passing()?;
    doorman.batch_execute(HANDLER).map_err(explain)?;
    close_door(&mut doorman, PLACE)?;
    doorman.batch_execute(START).map_err(explain)?;
    wait_at_door(&mut doorman).with_context(|| format!("waiting for the job's worker at \"{PLACE}\""))?;

    let mut client = world.connect_passing()?;
    let tag = world.ledger.new_tag();
    client.batch_execute("SET application_name = 'unlucky'").map_err(explain)?;
    client.batch_execute(&append_sql("seed-3", &tag, 1)).map_err(explain)?;
    world.ledger.enter(&tag, 1, Fate::Kept);
    client.batch_execute("RESET application_name").map_err(explain)?;
    let failures = "SELECT count(*) FROM refold.mirror_failure";
    let failures: i64 = client.query_one(failures, &[]).map_err(explain)?.try_get(0)?;
    ensure!(failures == 1, "{failures} appends could not be mirrored");

    open_door(&mut doorman, PLACE)?;
    wait_for_job(&mut client)?;
    let last = "SELECT state, rounds FROM refold.rebuild_job ORDER BY job_id DESC LIMIT 1";
    let row = client.query_one(last, &[]).map_err(explain)?;
    let (state, rounds): (String, i32) = (row.try_get(0)?, row.try_get(1)?);
    checks::check(world)?;
    ensure!((state.as_str(), rounds) == ("done", 1), "the job is {state}, begun anew {rounds} times");
    client.batch_execute(TO_OLD).map_err(explain)?;
    client.batch_execute("DROP FUNCTION fold_cart_unlucky(cart, refold.event)").map_err(explain)
}
