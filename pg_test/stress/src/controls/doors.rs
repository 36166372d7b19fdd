//! Mutants of `append_event` in SQL, and of a handler: a whole run on each must fail.

use anyhow::{Context, Result, bail, ensure};
use postgres::Config;

use super::{PATIENCE, execute};
use crate::run::{self, Options};
use crate::session::{APP, OWNER};
use crate::world::{connect, set_up};

/// In front of the genuine function: BODY can have the GENUINE append with `id` as its event_id, and knows as `known` the same event if the log has it.
const DOOR: &str = r#"
    ALTER FUNCTION refold.append_event(text, text, jsonb, jsonb, bigint, uuid) RENAME TO genuine;
    CREATE FUNCTION refold.append_event(
        stream_id text, event_type text, data jsonb, metadata jsonb = '{}', expected_version bigint = NULL,
        event_id uuid = NULL, OUT stream_version bigint, OUT "position" bigint
    ) LANGUAGE plpgsql SECURITY DEFINER AS $$
    #variable_conflict use_variable
    DECLARE
        known refold.event;
        id uuid := event_id;
    BEGIN
        SELECT e.* INTO known FROM refold.event e WHERE e.event_id = id AND e.stream_id = stream_id AND e.data = data;
        BODY
    END
    $$;
    GRANT EXECUTE ON FUNCTION refold.append_event(text, text, jsonb, jsonb, bigint, uuid) TO stress_owner, stress_app"#;
/// What a run tells of an event_id that does not keep its event: the retrier, and a writer that repeats or reuses it.
const NOT_KEPT: [&str; 3] = ["the log has [", "when repeated", "was not refused with 23505"];
/// What the ledger finds in the end, if nobody met it before.
const LOST: [&str; 4] = [NOT_KEPT[0], NOT_KEPT[1], NOT_KEPT[2], "(Committed): told"];
/// Of a run whose fault is found at its end if nobody meets it earlier.
const SHORT: u64 = 4;

const GENUINE: &str = r#"SELECT g.stream_version, g.position INTO stream_version, "position"
    FROM refold.genuine(stream_id, event_type, data, metadata, expected_version, id) g;"#;

fn door(body: &str) -> String {
    DOOR.replace("BODY", &body.replace("GENUINE", GENUINE))
}

/// Acknowledges what it rolls back.
pub fn lost(config: &Config) -> Result<()> {
    let body = "BEGIN
            GENUINE
            IF random() < 0.02 THEN RAISE 'lost'; END IF;
        EXCEPTION WHEN raise_exception THEN
        END;";
    must_fail(config, &door(body), SHORT, &LOST)
}

/// Appends a known event_id again, under another one.
pub fn doubled(config: &Config) -> Result<()> {
    let body = "IF known.position IS NOT NULL THEN id := gen_random_uuid(); END IF; GENUINE";
    must_fail(config, &door(body), PATIENCE.as_secs(), &NOT_KEPT)
}

/// Tells who repeats an append where its stream is now.
pub fn told_otherwise(config: &Config) -> Result<()> {
    let body = r#"IF known.position IS NULL THEN
            GENUINE
        ELSE
            SELECT e.stream_version, e.position INTO stream_version, "position"
            FROM refold.event e WHERE e.stream_id = known.stream_id ORDER BY e.stream_version DESC LIMIT 1;
        END IF;"#;
    must_fail(config, &door(body), PATIENCE.as_secs(), &NOT_KEPT)
}

/// Nothing but the stream's lock keeps event_ids apart.
pub fn two_streams(config: &Config) -> Result<()> {
    let sql = "ALTER TABLE refold.event DROP CONSTRAINT event_id_key";
    must_fail(config, sql, PATIENCE.as_secs(), &["both streams got the event_id", "the log has [("])
}

/// A handler that sometimes, in an append and not in a replay, applies an event twice.
pub fn applied_twice(config: &Config) -> Result<()> {
    let sql = format!(
        "SET ROLE {OWNER};
         ALTER FUNCTION shelf_step(shelf, refold.event, bigint) RENAME TO shelf_once;
         CREATE FUNCTION shelf_step(state shelf, event refold.event, amount bigint) RETURNS shelf LANGUAGE plpgsql AS $$
         BEGIN
             state := shelf_once(state, event, amount);
             IF session_user = '{APP}' AND random() < 0.05 THEN
                 state := shelf_once(state, event, amount);
             END IF;
             RETURN state;
         END
         $$"
    );
    must_fail(
        config,
        &sql,
        PATIENCE.as_secs(),
        &["a snapshot shows shelf other than the fold", "verify_projection('shelf')"],
    )
}

/// A run on refold with this mutant, of so many seconds if nothing stops it, fails and tells one of these.
fn must_fail(config: &Config, mutant: &str, seconds: u64, found: &[&str]) -> Result<()> {
    set_up(config)?;
    execute(&mut connect(config)?, mutant).context("the mutant")?;
    let options = Options { seconds, seed: 1, writers: 3, ..Options::default() };
    match run::run_prepared(config, options) {
        Ok(report) => bail!("nothing was found:\n{report}"),
        Err(error) => {
            let text = format!("{error:#}");
            ensure!(found.iter().any(|found| text.contains(found)), error);
            Ok(())
        }
    }
}
