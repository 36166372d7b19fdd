//! An upgrade while appends and rebuilds go on: no append fails, and every model is right afterwards.

use anyhow::{Context, Result, anyhow, ensure};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{FRESH, connect, install_version, installed};
use crate::crash::explain;
use crate::server::Server;
use crate::workspace::EXTENSION;

const DATABASE: &str = "upgraded under load";
const SET_UP: &str = include_str!("load.sql");
const APPENDS: [&str; 2] = [
    "SELECT refold.append_event(format('cart-%s', (random() * 100)::int), 'added', '{}')",
    "SELECT refold.append_events(format('busy-%s', (random() * 100)::int), '[{\"type\": \"added\", \"data\": 1}, {\"type\": \"gone\", \"data\": 2}]')",
];
const REBUILDS: [&str; 2] =
    ["SELECT refold.rebuild_projection('cart')", "CALL refold.rebuild_projection_concurrently('tally')"];
/// As a DBA is told to do it: an upgrade that does not get its locks in this time gives up and is tried again.
const UPGRADE: &str = "SET lock_timeout = '500ms'; ALTER EXTENSION refold UPDATE TO 'next'";
const PATIENCE: Duration = Duration::from_secs(60);

pub fn upgrade(server: &Server) -> Result<()> {
    let next = installed(server, "next", None)?;
    let mut client = install_version(server, DATABASE, FRESH)?;
    client.batch_execute(SET_UP).map_err(explain).context("the set-up failed")?;
    let done = AtomicBool::new(false);
    let rounds = [const { AtomicU64::new(0) }; 4];
    let repeat = |sql: &str, rounds: &AtomicU64| -> Result<()> {
        let mut client = connect(server, DATABASE)?;
        while !done.load(Ordering::Relaxed) {
            client.batch_execute(sql).map_err(explain).with_context(|| sql.to_owned())?;
            rounds.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let each_has_come_round = || -> Result<()> {
        let before: Vec<_> = rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed)).collect();
        let started = Instant::now();
        while rounds.iter().zip(&before).any(|(rounds, before)| rounds.load(Ordering::Relaxed) < before + 2) {
            ensure!(
                started.elapsed() < PATIENCE && !done.load(Ordering::Relaxed),
                "the load has come to a halt"
            );
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let (repeat, done) = (&repeat, &done);
        let threads: Vec<_> = APPENDS
            .into_iter()
            .chain(REBUILDS)
            .zip(&rounds)
            .map(|(sql, rounds)| {
                scope.spawn(move || repeat(sql, rounds).inspect_err(|_| done.store(true, Ordering::Relaxed)))
            })
            .collect();
        let upgraded = each_has_come_round()
            .and_then(|()| until_it_gets_its_locks(&mut client))
            .and_then(|()| each_has_come_round());
        done.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        upgraded
    })?;
    client.batch_execute("RESET lock_timeout").map_err(explain)?;
    let different = "SELECT count(*) FROM refold.projection AS p, refold.verify_projection(p.name)";
    let different: i64 = client.query_one(different, &[]).map_err(explain)?.try_get(0)?;
    ensure!(different == 0, "{different} rows differ from the log");
    next.require_same(&super::facts::Facts::read(&mut client)?)?;
    drop(client);
    server.drop_database(DATABASE)
}

fn until_it_gets_its_locks(client: &mut postgres::Client) -> Result<()> {
    let started = Instant::now();
    loop {
        match client.batch_execute(UPGRADE) {
            Ok(()) => return Ok(()),
            Err(error) if started.elapsed() < PATIENCE && code(&error) == Some("55P03") => {}
            Err(error) => return Err(explain(error)).with_context(|| format!("no upgrade of {EXTENSION}")),
        }
    }
}

fn code(error: &postgres::Error) -> Option<&str> {
    error.code().map(postgres::error::SqlState::code)
}
