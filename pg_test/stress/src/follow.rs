//! Nothing but appends, as fast as they go, and pollers that ask without a pause: what falls between two statements of
//! `read_all`, or between two instructions of `nextval`, is met here.

use anyhow::{Context, Result, anyhow};
use postgres::Config;
use std::thread;
use std::time::{Duration, Instant};

use crate::appender::APPEND;
use crate::poller::{Followed, Source};
use crate::session::{certain, explain};
use crate::world::connect;

const WRITERS: u64 = 3;

/// In an empty database; fails if a poller missed an event. Gives how many events there were.
pub fn follow(config: &Config, time: Duration) -> Result<usize> {
    let mut client = connect(config)?;
    client.batch_execute("CREATE EXTENSION refold").map_err(explain)?;
    let started = Instant::now();
    thread::scope(|scope| {
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || append(config, writer, started, time))).collect();
        let mut followed = Followed::new(Source::All);
        while started.elapsed() < time {
            certain(followed.poll(&mut client, 1000))?;
        }
        for writer in writers {
            writer.join().map_err(|_| anyhow!("a writer panicked"))??;
        }
        followed.require_whole(&mut client).context("without a pause")
    })
}

fn append(config: &Config, writer: u64, started: Instant, time: Duration) -> Result<()> {
    let mut client = connect(config)?;
    let append = client.prepare(APPEND).map_err(explain)?;
    let (version, event_id): (Option<i64>, Option<String>) = (None, None);
    let mut number = 0_u64;
    while started.elapsed() < time {
        number += 1;
        let stream = format!("{writer}-{}", number % 50);
        client.query(&append, &[&stream, &"tick", &"{}", &"{}", &version, &event_id]).map_err(explain)?;
    }
    Ok(())
}
