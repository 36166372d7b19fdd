//! How long the scripts take.

use anyhow::Result;
use std::time::Instant;

use super::marten::GUIDS;
use super::script::Scripts;
use super::source::{Base, Place};
use crate::install::{self, Profile};
use crate::server::{Server, ServerOptions};
use crate::toolchain::Postgres;

/// Twenty events a stream, in turn. What Marten's function does, at once.
const FILL: &str = "CREATE TEMP TABLE filling AS
      SELECT n, ((n - 1) % greatest($$ / 20, 1))::text AS stream FROM generate_series(1, $$) AS n;
    INSERT INTO mt_streams (id, type, version)
      SELECT (lpad(stream, 8, '0') || '-0000-4000-8000-000000000000')::uuid, 'cart', count(*) FROM filling GROUP BY stream;
    INSERT INTO mt_events (seq_id, id, stream_id, version, data, type, timestamp, mt_dotnet_type)
      SELECT nextval('mt_events_sequence'), gen_random_uuid(), (lpad(stream, 8, '0') || '-0000-4000-8000-000000000000')::uuid,
             row_number() OVER (PARTITION BY stream ORDER BY n),
             jsonb_build_object('sku', 'sku-' || n % 500, 'quantity', n % 9, 'price', 2.25), 'item_added', now(), 'Shop.Events.Cart, Shop'
        FROM filling ORDER BY n";

/// The optimised build, with commits that reach the disk.
pub fn run(pg: &Postgres, events: u64) -> Result<()> {
    let options =
        ServerOptions::with(&[("fsync", "on"), ("shared_buffers", "'1GB'"), ("max_wal_size", "'8GB'")]);
    let server = Server::start(pg, &install::build(pg, Profile::Release)?, &options)?;
    let (scripts, base) = (Scripts::of_checkout()?, Base::of(&server, &GUIDS));
    for opened in [false, true] {
        base.with_tables(|place| {
            fill(place, events)?;
            if opened {
                place.execute("SELECT refold.open_store()")?;
            }
            let into = if opened { "a store that is in use" } else { "a new store" };
            println!("{events} events into {into}: {:.1} s", timed(&scripts, place, events)?);
            println!("again, with nothing new: {:.1} s", timed(&scripts, place, 0)?);
            Ok(())
        })?;
    }
    Ok(())
}

fn fill(place: &Place, events: u64) -> Result<()> {
    let mut client = place.connect()?;
    client
        .batch_execute(&format!("SET statement_timeout = 0; {}", FILL.replace("$$", &events.to_string())))?;
    Ok(client.batch_execute("ANALYZE")?)
}

fn timed(scripts: &Scripts, place: &Place, expected: u64) -> Result<f64> {
    let started = Instant::now();
    scripts.copy(place, &GUIDS, &[], usize::try_from(expected)?)?;
    Ok(started.elapsed().as_secs_f64())
}
