//! Whether a projection may be what its creator asks for; every refusal says why and what to do.

mod functions;
mod tables;

pub use tables::require_unowned;

use super::function::Function;
use super::registry::{Kind, Mode, Projection};
use crate::error::{Error, Result};
use crate::names::EventType;
use crate::pg::catalog::Catalog;
use crate::pg::identity::Settings;
use crate::pg::{identity, locks, row_security, spi};
use pgrx::pg_sys;
use std::cell::OnceCell;
use std::ffi::CString;

/// What a caller asks for.
pub struct Request {
    pub name: String,
    pub handler: pg_sys::Oid,
    pub tables: Option<Vec<pg_sys::Oid>>,
    pub event_types: Option<Vec<Option<String>>>,
    pub key: Option<pg_sys::Oid>,
    pub serial: bool,
}

/// A projection that may be created or rebuilt, with its functions.
pub struct Checked {
    pub projection: Projection,
    pub handler: Function,
    pub key: Option<Function>,
}

impl Checked {
    /// Changes when the handler's or the key's definition does.
    pub fn fingerprint(&self) -> String {
        let key = self.key.as_ref().map(|key| key.fingerprint.as_str());
        [self.handler.fingerprint.as_str(), key.unwrap_or_default()].concat()
    }

    /// 55000 if another session has replaced the handler or key since they were checked.
    pub fn require_unchanged(&self, catalog: &Catalog) -> Result<()> {
        for function in std::iter::once(&self.handler).chain(&self.key) {
            let now = self.projection.function(catalog, function.oid)?;
            if now.fingerprint != function.fingerprint {
                return Err(Error::wrong_state(format!(
                    "function {} was replaced while it was replayed",
                    function.signature
                ))
                .hint("Rebuild again."));
            }
        }
        Ok(())
    }
}

const FORMS: &str = "A handler is f(event refold.event) RETURNS void, f(events refold.event[]) RETURNS void, or the \
    fold f(state T, event refold.event) RETURNS T, where T is a table's row type.";

/// Checks a new projection, and locks its tables against being altered; it has no id and no generation yet.
pub fn new_projection(catalog: &Catalog, request: Request) -> Result<Checked> {
    let handler = Function::read(catalog, request.handler)?;
    let kind = kind_of(catalog, &handler)?;
    let tables = tables_of(kind, &handler, request.tables)?;
    for &table in &tables {
        locks::lock_relation(table, locks::Mode::AccessShare);
    }
    let owner = tables::check(catalog, &tables, true)?;
    functions::check_handler(catalog, kind, &handler, &tables, owner)?;
    let settings = capture_settings()?;
    tables::check_contents(catalog, kind, &tables, owner, &settings)?;
    let key = request.key.map(|key| Function::read(catalog, key)).transpose()?;
    functions::check_key(catalog, kind, key.as_ref(), &tables, owner)?;
    require_log_access(catalog, owner)?;
    let c_name =
        CString::new(request.name.as_str()).map_err(|_| Error::bad_value("name holds a zero byte"))?;
    let projection = Projection {
        id: 0,
        name: request.name,
        c_name,
        kind,
        handler: handler.oid,
        key: request.key,
        event_types: request.event_types.map(event_types).transpose()?,
        serial: request.serial,
        owner,
        built_by: owner,
        settings,
        generation: 1,
        flips: 1,
        mode: Mode::Active,
        mirror: None,
        skipped: Vec::new(),
        tables,
        tables_lost: false,
        live: OnceCell::new(),
    };
    Ok(Checked { projection, handler, key })
}

/// Checks a projection that is to be rebuilt, with a new handler if one is given: its tables may have changed since.
pub fn rebuilt_projection(
    catalog: &Catalog,
    mut projection: Projection,
    handler: Option<pg_sys::Oid>,
) -> Result<Checked> {
    let owner = tables::check(catalog, &projection.tables, false)?;
    let new_handler = handler.is_some_and(|new| new != projection.handler);
    if (new_handler || owner != projection.built_by) && !identity::has_rights_of(owner) {
        return Err(Error::not_allowed(format!("must be owner of projection \"{}\"", projection.name))
            .detail("The handler runs with the rights of the tables' owner."));
    }
    (projection.owner, projection.built_by) = (owner, owner);
    let handler = match handler {
        Some(given) => Function::read(catalog, given)?,
        None => projection.function(catalog, projection.handler)?,
    };
    let kind = kind_of(catalog, &handler)?;
    if kind != projection.kind {
        return Err(Error::bad_function(format!(
            "{} is no {} handler",
            handler.signature,
            projection.kind.as_str()
        ))
        .detail(format!("Projection \"{}\" has a {} handler.", projection.name, projection.kind.as_str()))
        .hint("Drop the projection and create it with the other kind of handler."));
    }
    if kind == Kind::Fold && projection.tables != [handler.result_table] {
        return Err(Error::bad_function(format!("{} folds another table", handler.signature))
            .hint("Drop the projection and create it with the other handler."));
    }
    functions::check_handler(catalog, kind, &handler, &projection.tables, projection.owner)?;
    let key = projection.key.map(|key| projection.function(catalog, key)).transpose()?;
    functions::check_key(catalog, kind, key.as_ref(), &projection.tables, projection.owner)?;
    require_log_access(catalog, owner)?;
    projection.handler = handler.oid;
    Ok(Checked { projection, handler, key })
}

/// Checks the tables again once they are locked: a foreign key or trigger may have come since.
pub fn recheck_tables(catalog: &Catalog, projection: &Projection) -> Result<()> {
    tables::check(catalog, &projection.tables, false).map(drop)
}

fn kind_of(catalog: &Catalog, handler: &Function) -> Result<Kind> {
    let is_void = handler.result == pg_sys::VOIDOID;
    let kind = match handler.arguments[..] {
        _ if !handler.plain || handler.returns_set || handler.variadic => None,
        [event] if event == catalog.event_type && is_void => Some(Kind::PerEvent),
        [events] if events == catalog.event_array && is_void => Some(Kind::PerBatch),
        [state, event] if event == catalog.event_type && state == handler.result => {
            (handler.result_table != pg_sys::InvalidOid).then_some(Kind::Fold)
        }
        _ => None,
    };
    kind.ok_or_else(|| {
        Error::bad_function(format!("{} has the form of no handler", handler.signature)).hint(FORMS)
    })
}

fn tables_of(kind: Kind, handler: &Function, given: Option<Vec<pg_sys::Oid>>) -> Result<Vec<pg_sys::Oid>> {
    match (kind, given) {
        (Kind::Fold, None) => Ok(vec![handler.result_table]),
        (Kind::Fold, Some(tables)) if tables == [handler.result_table] => Ok(tables),
        (Kind::Fold, Some(_)) => {
            Err(Error::bad_value("a fold writes the table of its state and no other")
                .hint("Leave tables out."))
        }
        (_, None) => Err(Error::null_argument("tables")
            .hint("Name all tables that the handler writes: a rebuild needs to know them.")),
        (_, Some(tables)) if tables.is_empty() => Err(Error::bad_value("tables must not be empty")
            .hint("Name all tables that the handler writes: a rebuild needs to know them.")),
        (_, Some(tables)) => Ok(tables),
    }
}

fn event_types(given: Vec<Option<String>>) -> Result<Vec<String>> {
    if given.is_empty() {
        return Err(Error::bad_value("event_types must not be empty").hint("Leave it out to take all types."));
    }
    let mut types = Vec::with_capacity(given.len());
    for event_type in given {
        let event_type = EventType::new(event_type)?.as_str().to_owned();
        if !types.contains(&event_type) {
            types.push(event_type);
        }
    }
    Ok(types)
}

/// A replay reads the log as the projection's owner, and needs to see all of it.
fn require_log_access(catalog: &Catalog, owner: pg_sys::Oid) -> Result<()> {
    // What the replay takes as well: under it no policy comes.
    locks::lock_relation(catalog.event, locks::Mode::AccessShare);
    if row_security::filters(catalog.event, owner) {
        let owner = identity::name_of(owner);
        return Err(Error::not_allowed("row-level security would hide events from a replay")
            .detail(format!("It reads the log as {owner}, the owner of the projection's tables."))
            .hint(format!("Use ALTER ROLE {owner} BYPASSRLS: a model is the fold of all events.")));
    }
    const SQL: &str = "SELECT has_table_privilege($1, 'refold.event', 'SELECT') \
        AND has_schema_privilege($1, 'refold', 'USAGE'), pg_get_userbyid($1)::text";
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &[spi::arg(owner)], spi::Snapshot::Latest, |rows| {
            if rows.need(0, 0)? {
                return Ok(());
            }
            let owner: String = rows.need(0, 1)?;
            Err(Error::not_allowed("permission denied for the log")
                .detail(format!("Handlers run as \"{owner}\", the owner of the projection's tables."))
                .hint("Use GRANT USAGE ON SCHEMA refold and GRANT SELECT ON refold.event."))
        })
    })
}

/// The caller's settings that decide what a handler's text means; the search_path as the schemas it names now.
fn capture_settings() -> Result<Settings> {
    const SQL: &str = "SELECT pg_catalog.string_agg(pg_catalog.quote_ident(s.name), ', ' ORDER BY s.n) \
        FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS s (name, n) \
        WHERE NOT pg_catalog.starts_with(s.name::pg_catalog.text, 'pg_temp')";
    let path: Option<String> = spi::query_once(SQL, &[], spi::Snapshot::Latest, |rows| Ok(rows.get(0, 0)))?;
    Ok(Settings {
        search_path: path.into_iter().chain(["pg_temp".to_owned()]).collect::<Vec<_>>().join(", "),
        time_zone: identity::value_of(c"timezone"),
        date_style: identity::value_of(c"datestyle"),
        interval_style: identity::value_of(c"intervalstyle"),
    })
}
