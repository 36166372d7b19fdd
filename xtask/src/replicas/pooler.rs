//! pgbouncer in transaction mode: each transaction of a client runs on another connection to the server. Nothing of refold's
//! is tied to a session, so appends and rebuilds go through it as they are.

use anyhow::{Context, Result, anyhow, bail, ensure};
use postgres::error::SqlState;
use postgres::types::Type;
use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::Cases;
use super::logical::append;
use super::pair::{Ongoing, require_none, run as execute, value};
use crate::crash::case::wait_for;
use crate::crash::explain;
use crate::packages;
use crate::server::Server;

pub const NAMES: &[&str] = &[APPENDS];
const APPENDS: &str = "pgbouncer: appends and rebuilds through transaction pooling";
const MODELS: &str = concat!(include_str!("subscriber.sql"), include_str!("projections.sql"));
const ORACLE: &str = include_str!("oracle.sql");
/// More clients than connections.
const CLIENTS: usize = 8;
const CONNECTIONS: usize = 4;
const DATABASE: &str = "pooled";

pub fn run(server: &Server, cases: &mut Cases) -> Result<()> {
    cases.case(APPENDS, || appends(server));
    Ok(())
}

/// A pgbouncer of our own, which ends with this.
struct Pooler {
    process: Child,
    folder: PathBuf,
    port: u16,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Pooler {
    fn start(server: &Server) -> Result<Self> {
        packages::provide_programs(&[("pgbouncer", "pgbouncer")])?;
        let folder = server.make_folder("pooler")?;
        let configuration = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={} port={} user={}\n[pgbouncer]\nlisten_addr =\nlisten_port = {}\nunix_socket_dir = {}\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = {CONNECTIONS}\n",
            server.socket_dir().display(),
            server.port(),
            server.user(),
            server.port(),
            folder.display(),
        );
        fs::write(&configuration, text)?;
        let mut command = Command::new("pgbouncer");
        command.arg(&configuration);
        let mut command = server.as_account(command);
        let log = fs::File::create(server.results_dir().join("pgbouncer.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().context("cannot run pgbouncer")?;
        let pooler = Self { process, folder, port: server.port() };
        wait_for(|| Ok(pooler.connect().is_ok().then_some(()))).context("pgbouncer does not let us in")?;
        Ok(pooler)
    }

    fn connect(&self) -> Result<Client> {
        let mut config = Config::new();
        config.host_path(&self.folder).port(self.port).user("somebody").dbname(DATABASE);
        config.connect(NoTls).map_err(explain)
    }
}

/// How a client says what it wants.
#[derive(Clone, Copy)]
enum Manner {
    /// The text of a statement.
    Text,
    /// Parameters, to a statement without a name.
    Parameters,
    /// A prepared statement, which lives as long as its transaction.
    Prepared,
    /// A transaction of several commands, which expects a version and begins anew if it is another.
    Retried,
}

const MANNERS: [Manner; 4] = [Manner::Text, Manner::Parameters, Manner::Prepared, Manner::Retried];

impl Manner {
    /// Appends one event to a stream that all append to; returns how often it had to begin anew.
    fn append(self, client: &mut Client, who: usize, n: usize) -> Result<usize> {
        let stream = format!("shared-{}", n % 3);
        match self {
            Self::Text => execute(client, &append(&stream, "sold", n)).map(|()| 0),
            Self::Parameters => {
                const SQL: &str = "SELECT refold.append_event($1, 'sold', $2::text::jsonb)";
                let data = format!("{{\"n\": {n}, \"sku\": \"sku-{}\"}}", n % 3);
                let parameters: [(&(dyn postgres::types::ToSql + Sync), Type); 2] =
                    [(&stream, Type::TEXT), (&data, Type::TEXT)];
                client.query_typed(SQL, &parameters).map_err(explain)?;
                Ok(0)
            }
            Self::Prepared => {
                let sql = format!(
                    "BEGIN; PREPARE by_{who}(text, jsonb) AS SELECT refold.append_event($1, 'sold', $2);
                     EXECUTE by_{who}('{stream}', '{{\"n\": {n}, \"sku\": \"sku-{}\"}}'); DEALLOCATE by_{who}; COMMIT",
                    n % 3
                );
                execute(client, &sql).map(|()| 0)
            }
            Self::Retried => retried(client, &stream, n),
        }
    }
}

fn retried(client: &mut Client, stream: &str, n: usize) -> Result<usize> {
    for tries in 0..1000 {
        let version =
            format!("SELECT coalesce(max(stream_version), 0) FROM refold.event WHERE stream_id = '{stream}'");
        let attempt = (|| {
            client.batch_execute(
                "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL refold.gate_timeout = '50ms'",
            )?;
            let version = first(&client.simple_query(&version)?).unwrap_or_default();
            client.batch_execute(&format!(
                "SELECT refold.append_event('{stream}', 'sold', '{{\"n\": {n}, \"sku\": \"sku-{}\"}}', expected_version => {version}); COMMIT",
                n % 3
            ))
        })();
        match attempt {
            Ok(()) => return Ok(tries),
            Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {
                execute(client, "ROLLBACK")?
            }
            Err(error) => return Err(explain(error)),
        }
    }
    bail!("1000 attempts have failed")
}

fn appends(server: &Server) -> Result<()> {
    server.create_database(DATABASE)?;
    let mut direct = server.config(DATABASE).connect(NoTls).map_err(explain)?;
    execute(&mut direct, MODELS)?;
    let pooler = Pooler::start(server)?;
    let mut client = pooler.connect()?;
    let mut watched = server.config(DATABASE).connect(NoTls).map_err(explain)?;
    let watcher = Ongoing::start(move |stop| {
        while !stop.load(Ordering::Relaxed) {
            require_none(&mut watched, "a snapshot sees", ORACLE)?;
        }
        Ok(())
    });
    let done = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let (appended, anew, backends) = thread::scope(|scope| -> Result<_> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|who| {
                let (pooler, done, stop) = (&pooler, &done, &stop);
                scope.spawn(move || -> Result<_> {
                    let mut client = pooler.connect()?;
                    let (mut appended, mut anew, mut backends) = (0_i64, 0, HashSet::new());
                    while !stop.load(Ordering::Relaxed) {
                        let n = appended as usize + who;
                        anew += MANNERS[who % MANNERS.len()].append(&mut client, who, n)?;
                        appended += 1;
                        done.fetch_add(1, Ordering::Relaxed);
                        // The longer the log, the longer the rows of these models.
                        thread::sleep(Duration::from_millis(10));
                        backends.insert(text(&mut client, "SELECT pg_backend_pid()")?);
                    }
                    Ok((appended, anew, backends.len()))
                })
            })
            .collect();
        let rebuilt = rebuild(&mut client, &done);
        stop.store(true, Ordering::Relaxed);
        let mut sums = (0, 0, 0);
        for client in clients {
            let (appended, anew, backends) =
                client.join().map_err(|_| anyhow!("a client has panicked"))??;
            sums = (sums.0 + appended, sums.1 + anew, sums.2.max(backends));
        }
        rebuilt.map(|()| sums)
    })?;
    watcher.stop()?;
    ensure!(backends > 1, "no client has met a second connection: nothing is pooled");
    ensure!(anew > 0, "nobody had to begin anew");
    let log: i64 = value(&mut direct, "SELECT count(*) FROM refold.event")?;
    ensure!(log == appended, "{appended} appends were acknowledged, and the log has {log} events");
    require_none(&mut direct, "not what the log says", ORACLE)?;
    let timeout = text(&mut client, "SELECT current_setting('refold.gate_timeout')")?;
    ensure!(timeout.as_deref() == Some("25ms"), "a transaction has another's setting: {timeout:?}");
    require_none(
        &mut direct,
        "differs from a fresh fold",
        "SELECT p.name || ' ' || v.key::text FROM refold.projections AS p, refold.verify_projection(p.name) AS v",
    )
}

fn first(messages: &[SimpleQueryMessage]) -> Option<String> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// One value without a prepared statement, if there is a row.
fn text(client: &mut Client, sql: &str) -> Result<Option<String>> {
    Ok(first(&client.simple_query(sql).map_err(explain)?))
}

/// Rebuilds of every kind by a client of the pooler, each while others append.
fn rebuild(client: &mut Client, done: &AtomicUsize) -> Result<()> {
    for sql in [
        "SELECT refold.rebuild_projection('cart', 'fold_cart_new(cart, refold.event)')",
        "BEGIN; SELECT refold.rebuild_projection('sku', 'fold_sku_new(sku, refold.event)'); COMMIT",
        "CALL refold.rebuild_projection_concurrently('journal', 'note_new(refold.event)', verify => true)",
        "CALL refold.rebuild_projection_concurrently('tally', 'add_tally_twice(refold.event[])', in_place => true)",
        "SELECT refold.start_rebuild('cart', 'fold_cart(cart, refold.event)', grace => '1 hour')",
        "SELECT refold.verify_projection('sku')",
    ] {
        let before = done.load(Ordering::Relaxed);
        wait_for(|| Ok((done.load(Ordering::Relaxed) > before + CLIENTS).then_some(())))?;
        execute(client, sql)?;
    }
    let phase = "SELECT phase FROM refold.rebuild_jobs WHERE state IN ('running', 'paused')";
    wait_for(|| Ok((text(client, phase)?.as_deref() == Some("grace")).then_some(())))?;
    execute(client, "SELECT refold.finish_rebuild('cart')")?;
    wait_for(|| Ok(text(client, phase)?.is_none().then_some(())))
}
