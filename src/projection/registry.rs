//! The registry of projections, cached in each backend.
//!
//! I3: it changes only under ShareRowExclusiveLock on the gate, and each change invalidates the gate.
//! I4: it is read only while the gate is held, with a snapshot newer than the lock, and the cache counts only if no
//! invalidation came while it was read.

use super::apply::Model;
use super::check::{self, Checked};
use super::function::Function;
use super::installation;
use super::mirror::Mirror;
use crate::error::{Error, Result};
use crate::pg::call::value;
use crate::pg::catalog::Catalog;
use crate::pg::identity::Settings;
use crate::pg::{identity, invalidation, spi};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::{OnceCell, RefCell};
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::time::Duration;

/// The three forms of handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `f(state T, event refold.event) RETURNS T`: refold writes.
    Fold,
    /// `f(event refold.event) RETURNS void`: the function writes.
    PerEvent,
    /// `f(events refold.event[]) RETURNS void`: the function writes.
    PerBatch,
}

impl Kind {
    /// The word for it in `refold.projection`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Fold => "fold",
            Kind::PerEvent => "per event",
            Kind::PerBatch => "per batch",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        [Kind::Fold, Kind::PerEvent, Kind::PerBatch]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| Error::damaged(format!("unknown kind of projection \"{text}\"")))
    }
}

/// What an append has to do for a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Apply it.
    Active,
    /// Apply it, and the mirror's handler to the shadow.
    Mirroring,
    /// Leave the events to a rebuild in place: the live tables hold a prefix of the log.
    Skipping,
}

impl Mode {
    /// The word for it in `refold.projection`.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Active => "active",
            Mode::Mirroring => "mirroring",
            Mode::Skipping => "skipping",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        [Mode::Active, Mode::Mirroring, Mode::Skipping]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| Error::damaged(format!("unknown mode of a projection \"{text}\"")))
    }
}

/// One projection, as one generation of it is.
pub struct Projection {
    pub id: i32,
    pub name: String,
    /// The name for PostgreSQL's error context.
    pub c_name: CString,
    pub kind: Kind,
    pub handler: pg_sys::Oid,
    pub key: Option<pg_sys::Oid>,
    /// `None` takes every type.
    pub event_types: Option<Vec<String>>,
    pub serial: bool,
    /// The owner of the first table, whoever that is by now; InvalidOid where the table is gone.
    pub owner: pg_sys::Oid,
    /// The owner when the model was built.
    pub built_by: pg_sys::Oid,
    pub settings: Settings,
    pub generation: i64,
    /// Counts the changes of state, cut-overs among them: a snapshot that sees another number is older (I5).
    pub flips: i64,
    pub mode: Mode,
    /// The second model that appends keep up, while the mode is mirroring.
    pub mirror: Option<Box<Mirror>>,
    /// The live tables, in the order in which they were given.
    pub tables: Vec<pg_sys::Oid>,
    /// Whether one of them does not exist any more.
    pub tables_lost: bool,
    /// Positions of the events that are left out for good.
    pub skipped: Vec<i64>,
    /// How to apply events to the live tables; made at first use, while they are locked.
    pub(super) live: OnceCell<Model>,
}

impl Projection {
    /// Runs user code on the live tables: as their owner, with the settings of the projection's creation. 55000 where
    /// the table is gone; and where it has got another owner, whom the handler's author has no right to act as.
    pub fn as_owner<R>(&self, body: impl FnOnce() -> Result<R>) -> Result<R> {
        self.require_owner()?;
        identity::as_owner(self.owner, &self.settings, body)
    }

    /// Whether user code may run as the owner of the tables, as [`Projection::as_owner`] says.
    pub fn require_owner(&self) -> Result<()> {
        if self.owner == pg_sys::InvalidOid || self.tables_lost {
            return Err(self.lost("a table"));
        }
        if self.owner != self.built_by {
            return Err(Error::wrong_state(format!(
                "the tables of projection \"{}\" have got another owner",
                self.name
            ))
            .detail("Its handler runs as the owner of its tables, who has not agreed to that yet.")
            .hint("Let the new owner, or a member of that role, call refold.rebuild_projection."));
        }
        Ok(())
    }

    /// The projection's handler or key; 55000 where it is gone.
    pub fn function(&self, catalog: &Catalog, oid: pg_sys::Oid) -> Result<Function> {
        let what = if oid == self.handler { "the handler" } else { "the key function" };
        Function::find(catalog, oid)?.ok_or_else(|| self.lost(what))
    }

    pub fn takes(&self, event_type: &str) -> bool {
        self.event_types.as_ref().is_none_or(|types| types.iter().any(|taken| taken == event_type))
    }

    /// The same, without what it has made at first use and without a mirror.
    pub(super) fn like(&self) -> Self {
        Self {
            id: self.id,
            name: self.name.clone(),
            c_name: self.c_name.clone(),
            kind: self.kind,
            handler: self.handler,
            key: self.key,
            event_types: self.event_types.clone(),
            serial: self.serial,
            owner: self.owner,
            built_by: self.built_by,
            settings: self.settings.clone(),
            generation: self.generation,
            flips: self.flips,
            mode: self.mode,
            mirror: None,
            tables: self.tables.clone(),
            tables_lost: self.tables_lost,
            skipped: self.skipped.clone(),
            live: OnceCell::new(),
        }
    }

    /// The tables that an append writes for it: live ones and shadows.
    pub fn written(&self) -> impl Iterator<Item = pg_sys::Oid> {
        let live = if self.mode == Mode::Skipping { &[][..] } else { &self.tables };
        let shadows = self.mirror.as_ref().map_or(&[][..], |mirror| &mirror.shadows);
        live.iter().chain(shadows).copied()
    }

    fn lost(&self, what: &str) -> Error {
        Error::wrong_state(format!("{what} of projection \"{}\" does not exist any more", self.name)).hint(
            "Drop the projection with refold.drop_projection and create it anew; a handler can also be replaced with \
             refold.rebuild_projection.",
        )
    }
}

/// All projections, in the order of their creation.
pub struct Registry {
    pub projections: Vec<Rc<Projection>>,
    count: u64,
}

// Never dropped at the backend's exit, when PostgreSQL's memory is gone.
thread_local! {
    static CACHE: RefCell<ManuallyDrop<Option<Rc<Registry>>>> = const { RefCell::new(ManuallyDrop::new(None)) };
}

const LOAD: &str = "SELECT p.projection_id, p.name, p.kind, p.handler, p.key, p.event_types, p.serial, \
    coalesce((SELECT c.relowner FROM refold.projection_table AS t JOIN pg_class AS c ON c.oid = t.relation::oid \
              WHERE t.projection_id = p.projection_id AND t.ordinal = 1), 0::oid), p.owner, p.search_path, p.time_zone, p.date_style, p.interval_style, p.generation, \
    ARRAY(SELECT t.relation::oid FROM refold.projection_table AS t WHERE t.projection_id = p.projection_id \
          ORDER BY t.ordinal), \
    p.flips, p.mode, ARRAY(SELECT s.position FROM refold.skipped_event AS s WHERE s.projection_id = p.projection_id \
          ORDER BY s.position), \
    j.job_id, j.mirror_handler, \
    ARRAY(SELECT t.shadow FROM refold.shadow_table AS t WHERE t.job_id = j.job_id ORDER BY t.ordinal), \
    (SELECT quote_ident(n.nspname) FROM refold.shadow_table AS t JOIN pg_class AS c ON c.oid = t.shadow \
       JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE t.job_id = j.job_id AND t.ordinal = 1), \
    p.tables_lost \
    FROM refold._projection AS p LEFT JOIN refold.rebuild_job AS j \
      ON j.projection_id = p.projection_id AND j.state IN ('running', 'paused') AND p.mode = 'mirroring'";

fn read(rows: &spi::Rows<'_>, row: usize) -> Result<Projection> {
    let name: String = rows.need(row, 1)?;
    let c_name =
        CString::new(name.as_str()).map_err(|_| Error::damaged("a projection's name holds a zero byte"))?;
    let projection = Projection {
        id: rows.need(row, 0)?,
        name,
        c_name,
        kind: Kind::parse(&rows.need::<String>(row, 2)?)?,
        handler: rows.need(row, 3)?,
        key: rows.get(row, 4),
        event_types: rows.get(row, 5),
        serial: rows.need(row, 6)?,
        owner: rows.need(row, 7)?,
        built_by: rows.need(row, 8)?,
        settings: Settings {
            search_path: rows.need(row, 9)?,
            time_zone: rows.need(row, 10)?,
            date_style: rows.need(row, 11)?,
            interval_style: rows.need(row, 12)?,
        },
        generation: rows.need(row, 13)?,
        flips: rows.need(row, 15)?,
        mode: Mode::parse(&rows.need::<String>(row, 16)?)?,
        mirror: None,
        tables: rows.need(row, 14)?,
        tables_lost: rows.need(row, 22)?,
        skipped: rows.need(row, 17)?,
        live: OnceCell::new(),
    };
    Ok(match (projection.mode, rows.get(row, 18)) {
        (Mode::Mirroring, Some(job)) => {
            let mirror =
                Mirror::new(&projection, job, rows.need(row, 19)?, rows.need(row, 20)?, rows.need(row, 21)?);
            Projection { mirror: Some(Box::new(mirror)), ..projection }
        }
        // Restored from a dump, which has no jobs and no shadows.
        (Mode::Mirroring, None) => Projection { mode: Mode::Active, ..projection },
        _ => projection,
    })
}

fn load(catalog: &Catalog, count: u64) -> Result<Registry> {
    let sql = format!("{LOAD} ORDER BY p.projection_id");
    let projections = identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(&sql, &[], spi::Snapshot::Latest, |rows| {
            (0..rows.len()).map(|row| read(rows, row).map(Rc::new)).collect::<Result<Vec<_>>>()
        })
    })?;
    Ok(Registry { projections, count })
}

/// The projections as they are now; the caller holds the gate.
pub fn current(catalog: &Catalog) -> Result<Rc<Registry>> {
    loop {
        let before = invalidation::count();
        let cached = CACHE.with_borrow(|cache| cache.as_ref().map(Rc::clone));
        if let Some(registry) = cached
            && registry.count == before
        {
            return Ok(registry);
        }
        let registry = Rc::new(load(catalog, before)?);
        let tables = registry.projections.iter().flat_map(|projection| projection.written());
        let functions = registry.projections.iter().flat_map(|projection| {
            let mirrored = projection.mirror.as_ref().map(|mirror| mirror.projection.handler);
            [Some(projection.handler), projection.key, mirrored]
        });
        invalidation::watch(tables.collect(), &functions.flatten().collect::<Vec<_>>());
        // Loading with the old list of watched relations could have missed one: take what was loaded only if
        // nothing came, and then load once more if the list is new.
        if invalidation::count() == before {
            let old = CACHE.replace(ManuallyDrop::new(Some(registry)));
            drop(ManuallyDrop::into_inner(old));
        }
    }
}

/// One projection by name, as the newest snapshot sees it; 42704 if there is none. For commands, which keep it from
/// changing by the rebuild lock.
pub fn find(catalog: &Catalog, name: &str) -> Result<Projection> {
    let sql = format!("{LOAD} WHERE p.name = $1");
    let found = identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(&sql, &[spi::arg(name)], spi::Snapshot::Latest, |rows| {
            (rows.len() > 0).then(|| read(rows, 0)).transpose()
        })
    })?;
    found.ok_or_else(|| Error::unknown_projection(name))
}

/// The fingerprint of the handler and the key by which the model was last built.
pub fn fingerprint(catalog: &Catalog, projection: i32) -> Result<String> {
    const SQL: &str = "SELECT p.fingerprint FROM refold.projection AS p WHERE p.projection_id = $1";
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[spi::arg(projection)], spi::Snapshot::Latest, |rows| rows.need(0, 0))
    })
}

/// What the cut-over writes about the build.
pub struct Built {
    pub events: i64,
    pub duration: Duration,
    /// Of the handler and the key by which the model was built.
    pub fingerprint: String,
}

/// Makes a projection's next generation the current one; returns its number. The caller holds the gate closed (I3).
pub fn bump(catalog: &Catalog, checked: &Checked, built: Built) -> Result<i64> {
    const SQL: &str = "UPDATE refold.projection AS p SET generation = p.generation + 1, flips = p.flips + 1, \
        mode = 'active', handler = $2, \
        handler_signature = $3, fingerprint = $4, rebuilt_at = clock_timestamp(), rebuilt_events = $5, \
        rebuilt_in = make_interval(secs => $6), owner = $7, owner_name = pg_get_userbyid($7) WHERE p.projection_id = $1 RETURNING p.generation";
    let args = [
        spi::arg(checked.projection.id),
        spi::arg(checked.handler.oid),
        spi::arg(checked.handler.signature.as_str()),
        spi::arg(built.fingerprint.as_str()),
        spi::arg(built.events),
        spi::arg(built.duration.as_secs_f64()),
        spi::arg(checked.projection.owner),
    ];
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &args, spi::Snapshot::Command, |rows| rows.need(0, 0))
    })
}

/// Writes a new projection; returns its generation. The caller holds the gate closed (I3), so that projections have
/// their ids in the order of their creation. 42710 if the name was taken meanwhile.
pub fn insert(catalog: &Catalog, checked: &Checked, built: Built) -> Result<i64> {
    const SQL: &str = "WITH p AS (INSERT INTO refold.projection (name, kind, handler, handler_signature, \
          fingerprint, key, key_signature, event_types, serial, owner, search_path, time_zone, date_style, \
          interval_style, rebuilt_events, rebuilt_in, mode, owner_name, table_count, installation) \
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, make_interval(secs => $16), $18, \
          pg_get_userbyid($10), cardinality($17), i.installation_id FROM refold.installation AS i \
        RETURNING projection_id, generation, serial), \
      t AS (INSERT INTO refold.projection_table (relation, projection_id, ordinal) \
        SELECT t.relation, p.projection_id, t.ordinal FROM p, unnest($17) WITH ORDINALITY AS t (relation, ordinal)), \
      s AS (INSERT INTO refold.serial_turn (projection_id) SELECT p.projection_id FROM p WHERE p.serial) \
      SELECT p.generation FROM p";
    let projection = &checked.projection;
    let settings = &projection.settings;
    let args = [
        spi::arg(projection.name.as_str()),
        spi::arg(projection.kind.as_str()),
        spi::arg(checked.handler.oid),
        spi::arg(checked.handler.signature.as_str()),
        spi::arg(built.fingerprint.as_str()),
        spi::arg(projection.key),
        spi::arg(checked.key.as_ref().map(|key| key.signature.as_str())),
        spi::arg(projection.event_types.clone()),
        spi::arg(projection.serial),
        spi::arg(projection.owner),
        spi::arg(settings.search_path.as_str()),
        spi::arg(settings.time_zone.as_str()),
        spi::arg(settings.date_style.as_str()),
        spi::arg(settings.interval_style.as_str()),
        spi::arg(built.events),
        spi::arg(built.duration.as_secs_f64()),
        spi::arg(projection.tables.clone()),
        spi::arg(projection.mode.as_str()),
    ];
    require_unknown(catalog, &projection.name)?;
    check::require_unowned(catalog, &projection.tables)?;
    let _writing = installation::Writing::begin();
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &args, spi::Snapshot::Command, |rows| rows.need(0, 0))
    })
}

/// 42710 if there is a projection of that name.
pub fn require_unknown(catalog: &Catalog, name: &str) -> Result<()> {
    match find(catalog, name) {
        Err(Error::Own(report)) if report.code == PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(Error::new(
            PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
            format!("projection \"{name}\" already exists"),
        )
        .hint("Use refold.rebuild_projection to build its model anew, or refold.drop_projection first.")),
    }
}

/// Changes what appends do for a projection. The caller holds the gate closed, or its live tables locked exclusively (I3).
pub fn set_mode(catalog: &Catalog, projection: i32, mode: Mode) -> Result<()> {
    const SQL: &str =
        "UPDATE refold.projection AS p SET flips = p.flips + 1, mode = $2 WHERE p.projection_id = $1";
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[spi::arg(projection), spi::arg(mode.as_str())], spi::Snapshot::Command, |_| {
            Ok(())
        })
    })
}

/// Removes a projection. The caller holds the gate closed (I3).
pub fn remove(catalog: &Catalog, projection: i32) -> Result<()> {
    const SQL: &str = "WITH t AS (DELETE FROM refold.projection_table AS t WHERE t.projection_id = $1), \
        u AS (DELETE FROM refold.serial_turn AS u WHERE u.projection_id = $1), \
        s AS (DELETE FROM refold.skipped_event AS s WHERE s.projection_id = $1) \
        DELETE FROM refold.projection AS p WHERE p.projection_id = $1";
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[spi::arg(projection)], spi::Snapshot::Command, |_| Ok(()))
    })
}

/// I5: in a transaction that keeps one snapshot, 40001 unless the snapshot sees each projection's current state.
pub fn require_visible<'a>(
    catalog: &Catalog,
    projections: impl Iterator<Item = &'a Projection>,
) -> Result<()> {
    const SQL: &str = "SELECT p.flips FROM refold.projection AS p \
        WHERE p.projection_id OPERATOR(pg_catalog.=) $1";
    let plan = spi::Plan::prepare(SQL, &[pg_sys::INT4OID])?;
    identity::as_refold(catalog.owner, || {
        for projection in projections {
            let args = [value(projection.id)];
            let seen =
                spi::query(&plan, &args, spi::Snapshot::Command, None, |rows| Ok(rows.get::<i64>(0, 0)))?;
            if seen != Some(projection.flips) {
                return Err(Error::retry(format!(
                    "projection \"{}\" was rebuilt after this transaction's snapshot",
                    projection.name
                ))
                .hint("Retry the transaction."));
            }
        }
        Ok(())
    })
}

/// I5, for what is not there any more: in a transaction that keeps one snapshot, 40001 if the snapshot sees a projection
/// that takes one of these types and is not in `current`: there the event would be missing from its model.
pub fn require_none_dropped(catalog: &Catalog, current: &Registry, event_types: Vec<String>) -> Result<()> {
    const SQL: &str = "SELECT p.name FROM refold.projection AS p WHERE NOT p.projection_id = ANY ($1) \
        AND (p.event_types IS NULL OR p.event_types && $2) LIMIT 1";
    let ids: Vec<_> = current.projections.iter().map(|projection| projection.id).collect();
    let args = [spi::arg(ids), spi::arg(event_types)];
    let dropped: Option<String> = identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &args, spi::Snapshot::Command, |rows| {
            (rows.len() > 0).then(|| rows.need(0, 0)).transpose()
        })
    })?;
    match dropped {
        None => Ok(()),
        Some(name) => {
            Err(Error::retry(format!("projection \"{name}\" was dropped after this transaction's snapshot"))
                .hint("Retry the transaction."))
        }
    }
}
