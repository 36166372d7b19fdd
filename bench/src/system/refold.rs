//! refold, through its SQL functions.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Appender, Clients, Reader, Rebuilder, Rebuilt, Session, System};
use crate::case::{Append, Case, During, Kind, Log, Rebuild, Stall};
use crate::database::Database;
use crate::events::{DATA_SQL, OTHER, TAKEN};
use crate::load::{Run, Window};
use crate::memory::Backend;
use crate::models;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refold {
    Alone,
    /// Beside each projection are four that do not take the events' type.
    BesideOthers,
    /// Beside each projection is another of the same kind.
    BesideTwin,
    /// A concurrent rebuild mirrors all appends.
    BesideRebuild,
    /// A rebuild finds that no row differs.
    Unchanged,
    /// A rebuild's handler may run in parallel workers.
    Parallel,
    /// A worker rebuilds, in many transactions.
    Concurrent,
}

impl Refold {
    pub const VARIANTS: [Self; 6] = [
        Self::BesideOthers,
        Self::BesideTwin,
        Self::BesideRebuild,
        Self::Unchanged,
        Self::Parallel,
        Self::Concurrent,
    ];
}

const EVENT: &str = "refold.event";

impl System for Refold {
    fn name(&self) -> &'static str {
        match self {
            Self::Alone => "refold",
            Self::BesideOthers => "refold, 4 projections of other types",
            Self::BesideTwin => "refold, the projection twice",
            Self::BesideRebuild => "refold, mirroring for a rebuild",
            Self::Unchanged => "refold, no row differs",
            Self::Parallel => "refold, parallel workers",
            Self::Concurrent => "refold, concurrently",
        }
    }

    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    fn can(&self, case: &Case) -> bool {
        match self {
            Self::Alone => true,
            Self::BesideOthers | Self::BesideTwin | Self::BesideRebuild => matches!(case, Case::Beside(_)),
            Self::Unchanged | Self::Parallel => {
                matches!(case, Case::Rebuild(work) if work.kind == Kind::Fold)
            }
            Self::Concurrent => matches!(case, Case::Rebuild(work) if work.kind == Kind::PerEvent),
        }
    }

    fn install(&self, database: &Database) -> Result<()> {
        database.execute("CREATE EXTENSION refold")
    }

    fn log(&self) -> &'static str {
        "SELECT stream_id, event_type, data FROM refold.event"
    }

    fn prepare_models(&self, database: &Database, work: &Append) -> Result<()> {
        let Some(wanted) = work.models else { return Ok(()) };
        let (others, twins) = match self {
            Self::BesideOthers => (4, 0),
            Self::BesideTwin => (0, wanted.taking),
            _ => (0, 0),
        };
        for number in 1..=wanted.count + others + twins {
            let event_type = if number <= wanted.taking + twins { TAKEN } else { OTHER };
            let rebuild = Rebuild { log: Log { events: 0, streams: 0, one_in: 1 }, kind: wanted.kind };
            create_projection(database, &rebuild, number, Some(event_type))?;
        }
        Ok(())
    }

    fn appender(&self, database: &Database, work: &Append) -> Result<Appender> {
        let mut client = database.connect()?;
        if work.events == 1 {
            let append = client.prepare("SELECT refold.append_event($1, $2, $3)")?;
            return Ok(Box::new(move |call| {
                for event in &call.events {
                    client.execute(&append, &[&call.stream, &TAKEN, &event.data])?;
                }
                Ok(0)
            }));
        }
        let append = client.prepare("SELECT refold.append_events($1, $2)")?;
        Ok(Box::new(move |call| {
            let events = call.events.iter().map(|event| json!({"type": TAKEN, "data": &event.data}));
            client.execute(&append, &[&call.stream, &Value::Array(events.collect())])?;
            Ok(0)
        }))
    }

    fn accompany(&self, database: &Database, work: &Append, clients: Clients) -> Result<Box<dyn Session>> {
        Ok(match work.models {
            Some(models) if *self == Self::BesideRebuild => {
                Box::new(Mirroring::start(clients, database, models.kind)?)
            }
            _ => Box::new(clients),
        })
    }

    fn reader(&self, database: &Database) -> Result<Reader> {
        let mut client = database.connect()?;
        let read = client.prepare("SELECT * FROM refold.read_stream($1)")?;
        Ok(Box::new(move |stream| Ok(client.query(&read, &[&stream])?.len() as u64)))
    }

    /// Without the triggers, which only the superuser that we are can put aside: seconds instead of minutes.
    fn fill(&self, database: &Database, log: &Log) -> Result<()> {
        database.execute(&format!(
            "BEGIN;
             ALTER TABLE refold.event DISABLE TRIGGER USER;
             {};
             ALTER TABLE refold.event ENABLE ALWAYS TRIGGER admit;
             ALTER TABLE refold.event ENABLE ALWAYS TRIGGER apply;
             ALTER TABLE refold.event ENABLE ALWAYS TRIGGER immutable;
             COMMIT",
            fill_statement(EVENT, log)
        ))?;
        database.execute("VACUUM (FREEZE, ANALYZE) refold.event")
    }

    fn rebuilder(&self, database: &Database, work: &Rebuild) -> Result<Box<dyn Rebuilder>> {
        let event_type = (work.log.one_in > 1).then_some(TAKEN);
        create_projection(database, work, 1, event_type)?;
        if *self == Self::Parallel {
            for version in [1, 2] {
                let handler = signature(work.kind, 1, version);
                database.execute(&format!("ALTER FUNCTION {handler} STABLE PARALLEL SAFE"))?;
            }
        }
        let workers = match self {
            Self::Parallel => Some("parallel worker"),
            Self::Concurrent => Some("refold rebuild job"),
            _ => None,
        };
        Ok(Box::new(Rebuilding { backend: Backend::open(database, workers)?, work: *work, how: *self }))
    }

    /// None where this build of refold has no such rebuild.
    fn rebuild_statements(&self, database: &Database, work: &Stall) -> Result<Option<[String; 2]>> {
        let (verb, name) = match work.during {
            During::Quiet => return Ok(None),
            During::Atomic => ("SELECT", "rebuild_projection"),
            During::Concurrent => ("CALL", "rebuild_projection_concurrently"),
        };
        let there = database.number(&format!(
            "SELECT count(*) FROM pg_proc WHERE proname = '{name}' AND pronamespace = 'refold'::regnamespace"
        ))?;
        let rebuild = |version| {
            let handler = signature(Kind::Fold, 1, version);
            format!("{verb} refold.{name}('{}', '{handler}')", models::table(1))
        };
        Ok((there > 0).then(|| [2, 1].map(rebuild)))
    }
}

/// The events of `log`, in the order of streams that take turns.
pub fn fill_statement(table: &str, log: &Log) -> String {
    let Log { events, streams, one_in } = log;
    format!(
        "INSERT INTO {table} (stream_id, stream_version, event_type, data, event_id, horizon)
         SELECT 'cart-' || (n - 1) % {streams}, (n - 1) / {streams} + 1,
                CASE WHEN n % {one_in} = 0 THEN '{TAKEN}' ELSE '{OTHER}' END, {DATA_SQL},
                (lpad(to_hex(1760000000000 + n / 10), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8'
                 || substr(md5(n::text), 1, 15))::uuid,
                pg_catalog.pg_current_xact_id()
           FROM generate_series(1, {events}) AS n"
    )
}

/// A handler's name as `regprocedure` wants it.
fn signature(kind: Kind, number: usize, version: u32) -> String {
    models::create_handler(kind, number, version, EVENT).0
}

fn rebuild_concurrently(kind: Kind, version: u32, grace: &str) -> String {
    let (table, handler) = (models::table(1), signature(kind, 1, version));
    format!("CALL refold.rebuild_projection_concurrently('{table}', '{handler}', grace => '{grace}')")
}

/// A projection named like its table, with both versions of its handler.
fn create_projection(
    database: &Database,
    work: &Rebuild,
    number: usize,
    event_type: Option<&str>,
) -> Result<()> {
    let mut client = database.connect()?;
    client.batch_execute(&models::create_table(number))?;
    for version in [2, 1] {
        client.batch_execute(&models::create_handler(work.kind, number, version, EVENT).1)?;
    }
    let table = models::table(number);
    let handler = signature(work.kind, number, 1);
    let types = event_type.map(|event_type| vec![event_type]);
    let sql = "SELECT refold.create_projection($1::text, $2::text::regprocedure,
                 CASE WHEN $3 THEN NULL ELSE ARRAY[$1::text::regclass] END, event_types => $4)";
    client.query_one(sql, &[&table, &handler, &(work.kind == Kind::Fold), &types])?;
    Ok(())
}

/// Clients whose appends go to a rebuild's tables, too.
struct Mirroring {
    clients: Clients,
    database: Database,
    /// Where its tables are.
    schema: String,
}

impl Mirroring {
    /// To version 2 and back. In the second's grace period appends are mirrored as they are before the swap, and no
    /// snapshot is held.
    fn start(clients: Clients, database: &Database, kind: Kind) -> Result<Self> {
        for (version, grace) in [(2, "0"), (1, "1 day")] {
            database.execute(&rebuild_concurrently(kind, version, grace))?;
        }
        let schema = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'refold\\_shadow\\_%'";
        let schema = database.connect()?.query_one(schema, &[])?.get(0);
        Ok(Self { clients, database: database.clone(), schema })
    }
}

impl Session for Mirroring {
    fn run(&mut self, window: Window) -> Result<Run> {
        self.clients.run(window)
    }

    fn check(&self) -> Result<()> {
        let mirrored = format!("SELECT * FROM {}.{}", self.schema, models::table(1));
        models::check(&self.database, &mirrored, Refold::BesideRebuild.log(), 2)
    }
}

struct Rebuilding {
    backend: Backend,
    work: Rebuild,
    how: Refold,
}

impl Rebuilder for Rebuilding {
    fn rebuild(&mut self, version: u32) -> Result<Rebuilt> {
        match self.how {
            Refold::Concurrent => return self.concurrently(version),
            // The second time is measured.
            Refold::Unchanged => drop(self.once(version)?),
            _ => {}
        }
        self.once(version)
    }
}

impl Rebuilding {
    fn once(&mut self, version: u32) -> Result<Rebuilt> {
        let (table, handler) = (models::table(1), signature(self.work.kind, 1, version));
        let (row, rebuilt) = self.backend.watched(|client| {
            let sql = "SELECT (r).events_replayed, (r).rows_updated
                         FROM refold.rebuild_projection($1, $2::text::regprocedure) AS r";
            Ok(client.query_one(sql, &[&table, &handler])?)
        })?;
        let replayed: i64 = row.get(0);
        let taken = self.work.log.events / self.work.log.one_in;
        ensure!(u64::try_from(replayed)? == taken, "refold replayed {replayed} events, not {taken}");
        Ok(rebuilt)
    }

    fn concurrently(&mut self, version: u32) -> Result<Rebuilt> {
        let call = rebuild_concurrently(self.work.kind, version, "0");
        let ((), rebuilt) = self.backend.watched(|client| Ok(client.batch_execute(&call)?))?;
        Ok(rebuilt)
    }
}
