//! A database with projections and events, and what its clients know about it.

use anyhow::{Context, Result, anyhow, bail};
use postgres::error::SqlState;
use postgres::{Client, Config, NoTls};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ledger::{Fate, Ledger};
use crate::server::Server;

const SETUP: &str = include_str!("world.sql");
/// Streams, and events that each begins with: more than a job leaves for its last stretch, so that it works by batches.
const STREAMS: usize = 36;
const EVENTS: usize = 15;

static WORLDS: AtomicUsize = AtomicUsize::new(0);

pub struct World<'a> {
    pub server: &'a Server,
    pub ledger: Ledger,
    pub database: String,
    config: Config,
}

impl<'a> World<'a> {
    pub fn create(server: &'a Server) -> Result<Self> {
        let database = format!("crash_{}", WORLDS.fetch_add(1, Ordering::Relaxed));
        server.create_database(&database)?;
        let config = config(server, &database);
        let mut world = Self { server, ledger: Ledger::default(), database, config };
        let mut client = world.connect()?;
        client.batch_execute(SETUP).map_err(explain).context("the world's set-up failed")?;
        for stream in 0..STREAMS {
            world.append(&mut client, &format!("seed-{stream}"), EVENTS)?;
        }
        Ok(world)
    }

    /// The same database on another server, with all that the clients know.
    pub fn moved_to<'b>(self, server: &'b Server) -> World<'b> {
        self.copied_to(server, self.ledger.clone())
    }

    /// A copy of the database on another server, of which the clients know this.
    pub fn copied_to<'b>(&self, server: &'b Server, ledger: Ledger) -> World<'b> {
        World { server, ledger, database: self.database.clone(), config: config(server, &self.database) }
    }

    /// A client that waits at waitpoints.
    pub fn connect(&self) -> Result<Client> {
        self.config.connect(NoTls).map_err(explain)
    }

    /// A client that passes them.
    pub fn connect_passing(&self) -> Result<Client> {
        let mut client = self.connect()?;
        client.batch_execute("SET refold.waitpoints = off").map_err(explain)?;
        Ok(client)
    }

    /// Appends some events, and expects that to work.
    pub fn append(&mut self, client: &mut Client, stream: &str, events: usize) -> Result<()> {
        let tag = self.ledger.new_tag();
        client.batch_execute(&append_sql(stream, &tag, events)).map_err(explain)?;
        self.ledger.enter(&tag, i64::try_from(events)?, Fate::Kept);
        Ok(())
    }

    /// How many events of each append the log has.
    pub fn tags(&self, client: &mut Client) -> Result<HashMap<String, i64>> {
        let sql = "SELECT coalesce(metadata->>'tag', 'none'), count(*) FROM refold.event GROUP BY 1";
        let rows = client.query(sql, &[]).map_err(explain)?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// The projections' definitions, and which files are their tables', as text.
    pub fn registry(&self, client: &mut Client) -> Result<String> {
        let sql =
            "SELECT coalesce(string_agg(concat_ws(' ', name, handler, generation, (SELECT array_agg(pg_relation_filenode(t)) FROM unnest(tables) AS t)), ', ' ORDER BY name), '')
                     FROM refold.projections";
        Ok(client.query_one(sql, &[]).map_err(explain)?.try_get(0)?)
    }
}

fn config(server: &Server, database: &str) -> Config {
    let mut config = server.config(database);
    config.options("-c statement_timeout=120s");
    config
}

/// One call that appends `events` events, each marked with the tag; said again, it finds what it has appended.
pub fn append_sql(stream: &str, tag: &str, events: usize) -> String {
    format!(
        "SELECT refold.append_events('{stream}', (SELECT jsonb_agg(jsonb_build_object('type', 'sold',
           'event_id', md5(concat('{tag}', n))::uuid, 'metadata', jsonb_build_object('tag', '{tag}'),
           'data', jsonb_build_object('sku', '{stream}', 'n', n, 'note',
             (SELECT string_agg(md5(concat(n, i)), '') FROM generate_series(1, n * 20) AS i))))
           FROM generate_series(1, {events}) AS n))"
    )
}

/// Fails unless the statements fail with this code.
pub fn expect(client: &mut Client, sql: &str, code: &SqlState) -> Result<()> {
    match client.batch_execute(sql) {
        Ok(()) => bail!("it works, and should fail with {}: {sql}", code.code()),
        Err(error) if error.code() == Some(code) => Ok(()),
        Err(error) => Err(explain(error)).with_context(|| format!("not {}: {sql}", code.code())),
    }
}

/// What the server said, with DETAIL: the client's own text is only `db error`.
pub fn explain(error: postgres::Error) -> anyhow::Error {
    match error.as_db_error() {
        None => anyhow!(error),
        Some(answer) => {
            let detail = answer.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            anyhow!("{} {}{detail}", answer.code().code(), answer.message())
        }
    }
}
