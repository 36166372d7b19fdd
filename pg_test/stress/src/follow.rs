//! Nothing but appends, as fast as they go, and a poller that asks without a pause: what falls between two statements of
//! `read_all`, or between two instructions of `nextval`, is met here.

use anyhow::{Result, anyhow};
use postgres::Config;
use std::thread;
use std::time::{Duration, Instant};

use crate::poller::{Followed, Source};
use crate::session::explain;
use crate::world::connect;

const POLLER: &str = include_str!("../sql/follow.sql");
const WRITERS: u64 = 3;

/// In an empty database; fails if the poller missed an event. Gives how many events there were.
pub fn follow(config: &Config, time: Duration) -> Result<usize> {
    let mut client = connect(config)?;
    client.batch_execute("CREATE EXTENSION refold").map_err(explain)?;
    let started = Instant::now();
    thread::scope(|scope| {
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || append(config, writer, started, time))).collect();
        let setting = format!("SET stress.follow = '{} ms'", time.as_millis());
        client.batch_execute(&setting).map_err(explain)?;
        let polled = client.batch_execute(POLLER).map_err(explain);
        for writer in writers {
            writer.join().map_err(|_| anyhow!("a writer panicked"))??;
        }
        polled?;
        Followed::new(Source::All).require_whole(&mut client)
    })
}

/// In the server as well: a client's round trips would leave it at rest most of the time.
fn append(config: &Config, writer: u64, started: Instant, time: Duration) -> Result<()> {
    let mut client = connect(config)?;
    let left = time.saturating_sub(started.elapsed()).as_millis();
    let script = format!(
        "DO $$
         DECLARE
             started CONSTANT timestamptz := clock_timestamp();
             number int := 0;
         BEGIN
             WHILE clock_timestamp() < started + interval '{left} ms' LOOP
                 number := number + 1;
                 PERFORM refold.append_event('{writer}-' || number % 50, 'tick', '{{}}');
                 COMMIT;
             END LOOP;
         END
         $$"
    );
    client.batch_execute(&script).map_err(explain)
}
