//! The ways to migrate: while the old store lives, into a log that is in use, beside a writer that is slow.

use anyhow::{Context, Result, ensure};
use std::thread;

use super::script::Scripts;
use super::source::{Base, EVENTS, LOG, Place, WHOLE_LOG, events, require_same};
use crate::crash::{explain, wait_for};

type Move = fn(&Base, &Scripts) -> Result<()>;

pub const MOVES: [(&str, Move); 4] = [
    ("copied while it lives, and again", copied_in_steps),
    ("a writer that is slow", slow_writer),
    ("a handler that fails", failing_handler),
    ("an application that writes to both", both_written),
];

/// How many events come later, each time.
const MORE: usize = 15;

const MODEL: &str =
    "CREATE TABLE cart (cart_id text PRIMARY KEY, events bigint NOT NULL, quantity bigint NOT NULL);
    CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
      SELECT ROW(event.stream_id, coalesce(state.events, 0) + 1,
                 coalesce(state.quantity, 0) + (event.data->>'quantity')::bigint)::cart $$;
    SELECT refold.create_projection('cart', 'fold_cart(cart, refold.event)')";
const ROWS: &str = "SELECT ROW(cart_id, events, quantity)::text FROM cart ORDER BY cart_id COLLATE \"C\"";
/// The same of the old store.
const TALLY: &str = "SELECT ROW(<stream>::text, count(*), sum((<data>->>'quantity')::bigint))::text
    FROM <table> GROUP BY <stream> ORDER BY <stream>::text COLLATE \"C\"";
/// Events whose time is not that of the old store.
const OF_OTHER_TIME: &str = "SELECT count(*)::text FROM refold.event
    WHERE recorded_at <> (metadata->'copied_from'->>'recorded_at')::timestamptz";

fn copied_in_steps(base: &Base, scripts: &Scripts) -> Result<()> {
    let source = base.source;
    base.with_copy(|place| {
        let copy = |what: &str, options: &[&str], expected: usize, later: usize| -> Result<()> {
            scripts.copy(place, source, options, expected).context(what.to_owned())?;
            place.require_same("log", &source.log(), LOG).context(what.to_owned())?;
            let other = place.lines(OF_OTHER_TIME)?;
            ensure!(other == [later.to_string()], "{what}: {other:?} events have another time, not {later}");
            Ok(())
        };
        copy("the first time", &[], EVENTS, 0)?;
        let before = place.lines(WHOLE_LOG)?;
        copy("the second time", &[], 0, 0)?;
        require_same("log", &before, &place.lines(WHOLE_LOG)?)?;

        source.write(place, &events(source, EVENTS, MORE))?;
        copy("with new events", &[], MORE, 0)?;

        place.execute(MODEL)?;
        require_model(base, place).context("built")?;
        source.write(place, &events(source, EVENTS + MORE, MORE))?;
        copy("beside a projection", &["batch=4"], MORE, MORE)?;
        require_model(base, place).context("kept up")?;
        copy("at the end", &[], 0, MORE)?;
        goes_on(base, place)?;
        scripts.copy(place, source, &[], 0)
    })
}

/// The model is what the old store says, and what the log says.
fn require_model(base: &Base, place: &Place) -> Result<()> {
    place.require_same("model", &base.source.words().put_into(TALLY), ROWS)?;
    let differing = place.lines("SELECT v::text FROM refold.verify_projection('cart') AS v")?;
    ensure!(differing.is_empty(), "{differing:?}");
    Ok(())
}

/// Positions and versions follow those that were copied; readers of the log pass all of it.
fn goes_on(base: &Base, place: &Place) -> Result<()> {
    let stream = base.source.stream(900);
    let sql = format!(
        "SELECT concat_ws(' ', a.stream_version, a.position - (SELECT max(position) FROM refold.event))
           FROM refold.append_event('{stream}', 'item_added', '{{\"quantity\": 1}}') AS a"
    );
    let appended = place.lines(&sql)?;
    ensure!(appended == ["1 1"], "{appended:?}");
    place.require_same(
        "what readers see",
        "SELECT e.position::text FROM refold.event AS e ORDER BY e.position",
        "SELECT r.position::text FROM refold.read_all(max_count => 100000) AS r",
    )
}

/// Somebody has drawn a number and not committed, and a later one is there: the script waits.
fn slow_writer(base: &Base, scripts: &Scripts) -> Result<()> {
    let source = base.source;
    base.with_copy(|place| {
        let mut slow = place.connect()?;
        slow.batch_execute("BEGIN").map_err(explain)?;
        slow.batch_execute(&source.append_one(&source.stream(901))).map_err(explain)?;
        place.execute(&source.append_one(&source.stream(911)))?;
        thread::scope(|scope| -> Result<()> {
            let script = scope.spawn(|| scripts.copy(place, source, &[], EVENTS + 2));
            let mut witness = place.connect()?;
            let waits = "SELECT FROM pg_stat_activity WHERE datname = current_database()
                AND query LIKE '%wait_for_writers()%' AND wait_event = 'PgSleep' AND pid <> pg_backend_pid()";
            let waited = wait_for(|| Ok(witness.query_opt(waits, &[]).map_err(explain)?.map(|_| ())));
            slow.batch_execute("COMMIT").map_err(explain)?;
            script.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            waited.context("it has not waited")
        })?;
        place.require_same("log", &source.log(), LOG)
    })
}

/// What was copied before a handler fails stays, and is a beginning of the log; the next call goes on.
fn failing_handler(base: &Base, scripts: &Scripts) -> Result<()> {
    const FAILING: &str = "CREATE TABLE seen (event_id uuid PRIMARY KEY);
        CREATE FUNCTION see(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
          IF event.metadata->'copied_from'->>'position' = '18' THEN
            RAISE 'not this one' USING ERRCODE = 'P0077', HINT = 'Mend the handler.';
          END IF;
          INSERT INTO seen VALUES (event.event_id);
        END $$;
        SELECT refold.create_projection('seen', 'see(refold.event)', '{seen}')";
    let source = base.source;
    base.with_copy(|place| {
        place.execute(FAILING)?;
        scripts.refuse(place, source, &["batch=4"], "P0077")?;
        let (old, copied) = (place.lines(&source.log())?, place.lines(LOG)?);
        require_same("the beginning", &old[..16], &copied)?;
        place.require_same(
            "model",
            "SELECT event_id::text FROM refold.event ORDER BY 1",
            "SELECT event_id::text FROM seen ORDER BY 1",
        )?;
        place.execute("SELECT refold.drop_projection('seen')")?;
        scripts.copy(place, source, &["batch=4"], EVENTS - 16)?;
        place.require_same("log", &source.log(), LOG)
    })
}

/// After the move, for a way back: the script shows that both stores have the same, or that they have not.
fn both_written(base: &Base, scripts: &Scripts) -> Result<()> {
    const SAME_EVENT: &str = "SELECT refold.append_event(<stream>::text, <type>, <data>, '{}', 0, <id>::uuid)
        FROM <table> ORDER BY <number> DESC LIMIT 1";
    let source = base.source;
    base.with_copy(|place| {
        scripts.copy(place, source, &[], EVENTS)?;
        let same_event = source.words().put_into(SAME_EVENT);
        for number in 902..905 {
            let old = source.append_one(&source.stream(number));
            place.execute(&format!("BEGIN; {old}; {same_event}; COMMIT"))?;
        }
        scripts.copy(place, source, &[], 0)?;
        let alone =
            format!("SELECT refold.append_event('{}', 'paid', '{{}}', '{{}}', 1)", source.stream(904));
        place.execute(&alone)?;
        let refused = scripts.refuse(place, source, &[], "55000")?;
        ensure!(refused.text.contains("has events that the old store's has not"), "{}", refused.text);
        Ok(())
    })
}
