//! Two servers with publications and subscriptions between databases of the same name.

use anyhow::{Context, Result, anyhow, ensure};
use postgres::{Client, NoTls};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::crash::case::wait_for;
use crate::crash::explain;
use crate::server::{Server, ServerOptions};

/// The publication and the subscription of a database have its name.
pub struct Pair<'a> {
    pub publisher: &'a Server,
    pub subscriber: &'a Server,
}

pub fn publisher_options() -> ServerOptions {
    ServerOptions::with(&[
        ("wal_level", "logical"),
        ("max_wal_senders", "30"),
        ("max_replication_slots", "30"),
        ("max_worker_processes", "50"),
        ("logical_decoding_work_mem", "'64kB'"),
    ])
}

/// A worker that has failed begins anew soon.
pub fn subscriber_options() -> ServerOptions {
    ServerOptions::with(&[
        ("wal_retrieve_retry_interval", "'200ms'"),
        ("max_replication_slots", "30"),
        ("max_logical_replication_workers", "30"),
        ("max_worker_processes", "60"),
    ])
}

/// A client that passes waitpoints.
pub fn connect(server: &Server, database: &str) -> Result<Client> {
    let mut config = server.config(database);
    config.options("-c statement_timeout=60s -c refold.waitpoints=off");
    config.connect(NoTls).map_err(explain)
}

pub fn run(client: &mut Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).map_err(explain).with_context(|| sql.to_owned())
}

/// One value of one row.
pub fn value<T: for<'r> postgres::types::FromSql<'r>>(client: &mut Client, sql: &str) -> Result<T> {
    let row = client.query_one(sql, &[]).map_err(explain).with_context(|| sql.to_owned())?;
    row.try_get(0).with_context(|| sql.to_owned())
}

/// A condition's value.
pub fn is_true(client: &mut Client, sql: &str) -> Result<bool> {
    value(client, sql)
}

/// Fails with the rows that the query gives.
pub fn require_none(client: &mut Client, what: &str, sql: &str) -> Result<()> {
    let rows = client.query(sql, &[]).map_err(explain).with_context(|| sql.to_owned())?;
    let found = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    ensure!(found.is_empty(), "{what}: {}", found.join("; "));
    Ok(())
}

impl Pair<'_> {
    /// A database on both servers, with what the scripts make; returns clients of the two.
    pub fn create(&self, database: &str, there: &str, here: &str) -> Result<(Client, Client)> {
        let mut clients = Vec::new();
        for (server, script) in [(self.publisher, there), (self.subscriber, here)] {
            server.create_database(database)?;
            let mut client = connect(server, database)?;
            client.batch_execute(script).map_err(explain).context("the set-up failed")?;
            clients.push(client);
        }
        let subscriber = clients.pop().context("there is no subscriber")?;
        Ok((clients.pop().context("there is no publisher")?, subscriber))
    }

    pub fn publish(&self, database: &str, what: &str) -> Result<()> {
        run(&mut connect(self.publisher, database)?, &format!("CREATE PUBLICATION {database} {what}"))
    }

    /// Subscribes without waiting for the copy; `options` follow others in WITH.
    pub fn subscribe(&self, database: &str, options: &str) -> Result<()> {
        let sql = format!(
            "CREATE SUBSCRIPTION {database} CONNECTION 'host={} port={} user={} dbname={database}' PUBLICATION {database} WITH (streaming = on{options})",
            self.publisher.socket_dir().display(),
            self.publisher.port(),
            self.publisher.user(),
        );
        run(&mut connect(self.subscriber, database)?, &sql)
    }

    /// Until every table that the database subscribes to is copied, and what was committed until now is applied.
    pub fn catch_up(&self, database: &str) -> Result<()> {
        const NAMES: &str = "SELECT coalesce(array_agg(s.subname::text), '{}') FROM pg_subscription AS s
            JOIN pg_database AS d ON d.oid = s.subdbid AND d.datname = current_database()";
        const COPIED: &str = "SELECT count(*) = 0 FROM pg_subscription_rel WHERE srsubstate <> 'r'";
        const APPLIED: &str = "SELECT count(*) FROM pg_stat_replication
            WHERE application_name = ANY ($1) AND replay_lsn >= $2::text::pg_lsn";
        let mut there = connect(self.publisher, database)?;
        let mut here = connect(self.subscriber, database)?;
        let end: String = value(&mut there, "SELECT pg_current_wal_flush_lsn()::text")?;
        let names: Vec<String> = value(&mut here, NAMES)?;
        wait_for(|| {
            let applied: i64 = there.query_one(APPLIED, &[&names, &end]).map_err(explain)?.try_get(0)?;
            let done = is_true(&mut here, COPIED)? && usize::try_from(applied)? == names.len();
            Ok(done.then_some(()))
        })
        .with_context(|| format!("waiting for the subscriptions of {database}"))
    }

    /// Ends the subscription, so that nothing of it is left on either side.
    pub fn unsubscribe(&self, database: &str) -> Result<()> {
        run(&mut connect(self.subscriber, database)?, &format!("DROP SUBSCRIPTION {database}"))
    }
}

/// How often a worker of the subscription has failed: while it applied, and while it copied.
pub fn failures(client: &mut Client) -> Result<(i64, i64)> {
    let sql = "SELECT coalesce(sum(apply_error_count), 0)::bigint, coalesce(sum(sync_error_count), 0)::bigint
                 FROM pg_stat_subscription_stats AS t JOIN pg_subscription AS s ON s.oid = t.subid
                 JOIN pg_database AS d ON d.oid = s.subdbid AND d.datname = current_database()";
    let row = client.query_one(sql, &[]).map_err(explain)?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Something that goes on until it is stopped.
pub struct Ongoing<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<T>>,
}

impl<T: Send + 'static> Ongoing<T> {
    pub fn start(run: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Self { stop, thread: thread::spawn(move || run(&stopped)) }
    }

    pub fn stop(self) -> Result<T> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a thread has panicked"))?
    }
}
