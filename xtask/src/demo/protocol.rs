//! The two stores the shop is run on, refold and the published protocol, behind the few calls the load needs.

use anyhow::{Context, Result};
use postgres::{Client, Config, NoTls, Statement};
use std::time::{Duration, Instant};

use super::sql_error::explain;

const HANDLERS: &str = include_str!("sql/handlers.sql");
const REFOLD: &str = include_str!("sql/refold.sql");
const PUBLISHED_LOG: &str = include_str!("sql/published_log.sql");
const ACCOUNTING: &str = include_str!("sql/accounting.sql");
const PUBLISHED: &str = include_str!("sql/published.sql");

/// The shop's projections, in the order the rebuilder takes them.
pub const PROJECTIONS: [&str; 2] = ["cart", "sku_sales"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Refold,
    Published,
}

/// What one rebuild reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rebuild {
    pub took: Duration,
    /// How long appends had to wait at most; the published protocol lets none wait.
    pub gate: Duration,
    pub gate_attempts: u32,
}

/// How far a running rebuild is.
#[derive(Debug, Clone)]
pub struct Progress {
    pub projection: String,
    pub phase: String,
    pub done: Option<i64>,
    pub total: Option<i64>,
}

impl Protocol {
    pub fn title(self) -> &'static str {
        match self {
            Self::Refold => "refold",
            Self::Published => "the published protocol",
        }
    }

    pub fn database(self) -> &'static str {
        match self {
            Self::Refold => "demo_refold",
            Self::Published => "demo_published",
        }
    }

    /// Makes the shop in an empty database.
    pub fn set_up(self, config: &Config) -> Result<()> {
        let scripts = match self {
            Self::Refold => ["CREATE EXTENSION refold".to_owned(), HANDLERS.to_owned(), REFOLD.to_owned()],
            Self::Published => {
                [PUBLISHED_LOG.to_owned(), HANDLERS.replace("refold.event", "event"), PUBLISHED.to_owned()]
            }
        };
        let mut client = connect(config)?;
        for script in scripts.iter().map(String::as_str).chain([ACCOUNTING]) {
            client
                .batch_execute(script)
                .map_err(explain)
                .with_context(|| format!("could not set up the shop on {}", self.title()))?;
        }
        Ok(())
    }

    /// Appends one event: stream, type, data as text; gives its position.
    pub fn prepare_append(self, client: &mut Client) -> Result<Statement> {
        let sql = match self {
            Self::Refold => "SELECT position FROM refold.append_event($1, $2, $3::text::jsonb)",
            Self::Published => "SELECT position FROM append_event($1, $2, $3::text::jsonb)",
        };
        client.prepare(sql).map_err(explain)
    }

    /// Rebuilds one projection with the given version of its handler, in a transaction of its own.
    pub fn rebuild(
        self,
        client: &mut Client,
        projection: &str,
        version: i32,
    ) -> Result<Rebuild, postgres::Error> {
        let start = Instant::now();
        let mut rebuild = Rebuild::default();
        match self {
            Self::Refold => {
                let handler = match projection {
                    "cart" => format!("cart_v{version}(cart,refold.event)"),
                    _ => format!("{projection}_v{version}(refold.event)"),
                };
                let row = client.query_one(
                    "SELECT (extract(epoch FROM gate_held) * 1e6)::bigint AS gate, gate_attempts
                     FROM refold.rebuild_projection($1, $2::text::regprocedure)",
                    &[&projection, &handler],
                )?;
                rebuild.gate = Duration::from_micros(u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0));
                rebuild.gate_attempts = u32::try_from(row.try_get::<_, i32>(1)?).unwrap_or(0);
            }
            Self::Published => {
                client.execute("CALL rebuild($1, $2)", &[&projection, &version])?;
            }
        }
        rebuild.took = start.elapsed();
        Ok(rebuild)
    }

    /// The running rebuild, as another session sees it.
    pub fn progress(self, client: &mut Client) -> Result<Option<Progress>> {
        let sql = match self {
            Self::Refold => {
                "SELECT coalesce(projection, '?'), coalesce(phase, 'starting'), events_done, events_total
                 FROM refold.rebuild_progress LIMIT 1"
            }
            Self::Published => {
                "SELECT name, status, NULL::bigint, NULL::bigint
                 FROM projection_status WHERE status = 'rebuilding' LIMIT 1"
            }
        };
        let Some(row) = client.query_opt(sql, &[]).map_err(explain)? else { return Ok(None) };
        Ok(Some(Progress {
            projection: row.try_get(0)?,
            phase: row.try_get(1)?,
            done: row.try_get(2)?,
            total: row.try_get(3)?,
        }))
    }
}

/// A connection of the demo. Nothing it does takes long: a statement that hangs fails the demo.
pub fn connect(config: &Config) -> Result<Client> {
    config
        .clone()
        .application_name("refold demo")
        .options("-c statement_timeout=120s")
        .connect(NoTls)
        .map_err(explain)
        .context("could not connect")
}
