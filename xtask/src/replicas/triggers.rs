//! What a subscriber's other triggers do while replicated rows are applied, and rows that are long.

use anyhow::{Result, ensure};
use postgres::Client;

use super::Cases;
use super::logical::{SUBSCRIBER, append};
use super::pair::{Pair, failures, run as execute, value};
use crate::crash::case::wait_for;

pub const NAMES: &[&str] = &[LONG, ROWS, TABLES];
const LONG: &str = "triggers: long names of streams, and long events";
const ROWS: &str = "triggers: others on the log append, and leave events out";
const TABLES: &str = "triggers: those of replicated tables append";

pub fn run(pair: &Pair, cases: &mut Cases) -> Result<()> {
    cases.case(LONG, || long(pair));
    cases.case(ROWS, || rows(pair));
    cases.case(TABLES, || tables(pair));
    Ok(())
}

const CART: &str = "SELECT refold.create_projection('cart', 'fold_cart(cart, refold.event)')";
const MODEL: &str =
    "SELECT coalesce(string_agg(format('%s: %s', cart_id, history), '; ' ORDER BY cart_id), '') FROM cart";

fn require_model(client: &mut Client, expected: &str) -> Result<()> {
    let (failed, _) = failures(client)?;
    ensure!(failed == 0, "the worker has failed {failed} times");
    let model: String = value(client, MODEL)?;
    ensure!(model == expected, "the model is {model:?}, not {expected:?}");
    Ok(())
}

/// The row that comes is freed before the model is written, and memory of this size is given back to the system at once.
fn long(pair: &Pair) -> Result<()> {
    const APPEND: &str = "SELECT refold.append_event(repeat('s', 1000), 'sold', jsonb_build_object('n', n, 'pad',
        (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 30000) AS i))) FROM generate_series(1, 3) AS n";
    let (mut there, mut here) = pair.create("long_rows", SUBSCRIBER, SUBSCRIBER)?;
    execute(&mut here, CART)?;
    pair.publish("long_rows", "FOR TABLE refold.event WITH (publish = 'insert')")?;
    pair.subscribe("long_rows", ", copy_data = false")?;
    execute(&mut there, APPEND)?;
    pair.catch_up("long_rows")?;
    require_model(&mut here, &format!("{}: 1,2,3", "s".repeat(1000)))?;
    pair.unsubscribe("long_rows")
}

/// Between the two triggers of an event another one appends by a statement, or says that the row shall not come in.
fn rows(pair: &Pair) -> Result<()> {
    const OTHER: &str = "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN
            IF NEW.event_type = 'secret' THEN RETURN NULL; END IF;
            IF NEW.event_type = 'told' THEN PERFORM refold.append_event('note', 'sold', NEW.data); END IF;
            RETURN NEW;
          END $$;
        CREATE TRIGGER other BEFORE INSERT ON refold.event FOR EACH ROW EXECUTE FUNCTION other();
        ALTER TABLE refold.event ENABLE ALWAYS TRIGGER other;
        CREATE FUNCTION after_secret() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN PERFORM refold.append_event('note-order', 'sold', jsonb_build_object('n', 9)); RETURN NEW; END $$;
        CREATE TABLE orders (id int PRIMARY KEY);
        CREATE TRIGGER note AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION after_secret();
        ALTER TABLE orders ENABLE ALWAYS TRIGGER note";
    let (mut there, mut here) = pair.create("other_rows", SUBSCRIBER, SUBSCRIBER)?;
    execute(&mut there, "CREATE TABLE orders (id int PRIMARY KEY)")?;
    execute(&mut here, CART)?;
    execute(&mut here, OTHER)?;
    pair.publish("other_rows", "FOR TABLE refold.event, orders WITH (publish = 'insert')")?;
    pair.subscribe("other_rows", ", copy_data = false")?;
    let left_out = append("b", "secret", 1);
    execute(&mut there, &format!("BEGIN; {left_out}; INSERT INTO orders VALUES (1); COMMIT"))?;
    execute(&mut there, &append("a", "sold", 1))?;
    pair.catch_up("other_rows")?;
    require_model(&mut here, "a: 1; note-order: 9")?;
    // Appended between the two, an event would be applied before one that has an earlier position.
    execute(&mut there, &append("c", "told", 3))?;
    wait_for(|| Ok((failures(&mut here)?.0 > 1).then_some(())))?;
    let streams: Vec<String> =
        value(&mut here, "SELECT array_agg(stream_id ORDER BY position) FROM refold.event")?;
    ensure!(streams == ["note-order", "a"], "the log has the streams {streams:?}");
    execute(&mut here, "DROP TRIGGER other ON refold.event")?;
    pair.catch_up("other_rows")?;
    let model: String = value(&mut here, MODEL)?;
    ensure!(model == "a: 1; c: 3; note-order: 9", "the model is {model:?}");
    pair.unsubscribe("other_rows")
}

/// A replicated order becomes an event of the subscriber's own, with a serial projection, in a store that nobody has used.
fn tables(pair: &Pair) -> Result<()> {
    const ORDERS: &str = "CREATE TABLE orders (id int PRIMARY KEY)";
    const NOTE: &str = "CREATE FUNCTION append_order() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN
            PERFORM refold.append_event('order-' || NEW.id, 'ordered', jsonb_build_object('n', NEW.id));
            RETURN NEW;
          END $$;
        CREATE TRIGGER note AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION append_order();
        ALTER TABLE orders ENABLE ALWAYS TRIGGER note";
    const SERIAL: &str = "SELECT refold.create_projection('journal', 'note(refold.event)', tables => '{journal}', serial => true)";
    let (mut there, mut here) = pair.create("orders", ORDERS, SUBSCRIBER)?;
    execute(&mut here, ORDERS)?;
    execute(&mut here, NOTE)?;
    pair.publish("orders", "FOR TABLE orders")?;
    pair.subscribe("orders", "")?;
    execute(&mut there, "INSERT INTO orders VALUES (1)")?;
    pair.catch_up("orders")?;
    execute(&mut here, SERIAL)?;
    execute(&mut there, "INSERT INTO orders VALUES (2), (3)")?;
    pair.catch_up("orders")?;
    require_model(&mut here, "")?;
    let journal: Vec<String> = value(&mut here, "SELECT array_agg(entry ORDER BY line) FROM journal")?;
    ensure!(journal == ["order-1@1", "order-2@1", "order-3@1"], "the journal has {journal:?}");
    pair.unsubscribe("orders")
}
