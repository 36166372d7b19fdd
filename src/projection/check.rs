//! Whether a projection may be what its creator asks for; every refusal says why and what to do.

use super::function::{self, Function};
use super::registry::{Kind, Projection};
use crate::error::{Error, Result};
use crate::names::EventType;
use crate::pg::catalog::Catalog;
use crate::pg::identity::Settings;
use crate::pg::{identity, locks, spi, types};
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
    let owner = check_tables(catalog, &tables, true)?;
    check_handler(catalog, kind, &handler, &tables, owner)?;
    let settings = capture_settings()?;
    check_contents(catalog, kind, &tables, owner, &settings)?;
    let key = request.key.map(|key| Function::read(catalog, key)).transpose()?;
    check_key(catalog, kind, key.as_ref(), &tables, owner)?;
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
        settings,
        generation: 1,
        tables,
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
    if handler.is_some_and(|new| new != projection.handler) && !identity::has_rights_of(projection.owner) {
        return Err(Error::not_allowed(format!("must be owner of projection \"{}\"", projection.name))
            .detail("A new handler runs with its owner's rights."));
    }
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
    projection.owner = check_tables(catalog, &projection.tables, false)?;
    check_handler(catalog, kind, &handler, &projection.tables, projection.owner)?;
    let key = projection.key.map(|key| projection.function(catalog, key)).transpose()?;
    check_key(catalog, kind, key.as_ref(), &projection.tables, projection.owner)?;
    projection.handler = handler.oid;
    Ok(Checked { projection, handler, key })
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

const TABLE: &str = "SELECT format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relpersistence::text, \
      c.relowner, c.relforcerowsecurity, \
      EXISTS (SELECT FROM pg_inherits AS i WHERE c.oid IN (i.inhrelid, i.inhparent)), \
      EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate), \
      EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype & 3 = 3), \
      EXISTS (SELECT FROM pg_rewrite AS r WHERE r.ev_class = c.oid), \
      EXISTS (SELECT FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
               WHERE a.attrelid = c.oid AND NOT a.attisdropped \
                 AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval(%')), \
      EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND NOT i.indisprimary \
                AND (i.indisunique OR i.indisexclusion)) \
        AND EXISTS (SELECT FROM pg_constraint AS f WHERE f.confrelid = c.oid AND f.contype = 'f'), \
      EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tginitdeferred), \
      EXISTS (SELECT FROM pg_constraint AS f WHERE f.conrelid = c.oid AND f.contype = 'f' \
                AND f.confrelid = ANY ($2) AND (f.confdeltype NOT IN ('a', 'r') OR f.confupdtype NOT IN ('a', 'r'))), \
      EXISTS (SELECT FROM pg_index AS i JOIN pg_collation AS o ON o.oid = ANY (i.indcollation) \
               WHERE i.indrelid = c.oid AND i.indisprimary AND NOT o.collisdeterministic), \
      n.nspname IN ('refold', 'pg_catalog', 'information_schema'), \
      (SELECT p.name FROM refold.projection_table AS t JOIN refold.projection AS p USING (projection_id) \
        WHERE t.relation = c.oid) \
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = $1";

/// What [`TABLE`] tells about one table.
struct Facts {
    name: String,
    kind: String,
    persistence: String,
    owner: pg_sys::Oid,
    forces_row_security: bool,
    inherits: bool,
    has_key: bool,
    has_before_trigger: bool,
    has_rule: bool,
    draws_from_sequence: bool,
    unique_and_referenced: bool,
    has_deferred: bool,
    cascades: bool,
    key_is_vague: bool,
    system: bool,
    projection: Option<String>,
}

fn facts(catalog: &Catalog, table: pg_sys::Oid, tables: &[pg_sys::Oid]) -> Result<Facts> {
    identity::as_refold_pinned(catalog.owner, || {
        let args = [spi::arg(table), spi::arg(tables.to_vec())];
        spi::query_once(TABLE, &args, spi::Snapshot::Latest, |rows| {
            if rows.len() == 0 {
                return Err(Error::new(
                    pgrx::PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                    "the table of a projection does not exist any more",
                )
                .hint(
                    "Drop the projection with refold.drop_projection; refold.projections shows it as broken.",
                ));
            }
            Ok(Facts {
                name: rows.need(0, 0)?,
                kind: rows.need(0, 1)?,
                persistence: rows.need(0, 2)?,
                owner: rows.need(0, 3)?,
                forces_row_security: rows.need(0, 4)?,
                inherits: rows.need(0, 5)?,
                has_key: rows.need(0, 6)?,
                has_before_trigger: rows.need(0, 7)?,
                has_rule: rows.need(0, 8)?,
                draws_from_sequence: rows.need(0, 9)?,
                unique_and_referenced: rows.need(0, 10)?,
                has_deferred: rows.need(0, 11)?,
                cascades: rows.need(0, 12)?,
                key_is_vague: rows.need(0, 13)?,
                system: rows.need(0, 14)?,
                projection: rows.get(0, 15),
            })
        })
    })
}

/// Checks the tables of a projection; returns their owner, who owns the projection.
fn check_tables(catalog: &Catalog, tables: &[pg_sys::Oid], new: bool) -> Result<pg_sys::Oid> {
    let mut owner = None;
    for (index, &table) in tables.iter().enumerate() {
        let facts = facts(catalog, table, tables)?;
        if tables[..index].contains(&table) {
            return Err(Error::bad_value(format!("table {} is named twice", facts.name)));
        }
        check_table(&facts, new)?;
        if *owner.get_or_insert(facts.owner) != facts.owner {
            return Err(Error::not_allowed("the tables of a projection must have one owner")
                .detail(format!("Table {} has another owner than the first.", facts.name))
                .hint("Use ALTER TABLE ... OWNER TO."));
        }
        if new && !identity::has_rights_of(facts.owner) {
            return Err(Error::not_allowed(format!("must be owner of table {}", facts.name)).hint(
                "Its owner or a member of that role may create the projection; handlers run as that role.",
            ));
        }
    }
    owner.ok_or_else(|| Error::bad_value("tables must not be empty"))
}

fn unowned(facts: &Facts) -> Result<()> {
    match &facts.projection {
        None => Ok(()),
        Some(other) => {
            Err(Error::in_use(format!("table {} belongs to projection \"{other}\"", facts.name)).hint(
                "A table belongs to one projection; let that one's handler write it, or drop that projection.",
            ))
        }
    }
}

/// 55006 if a table belongs to a projection by now. The caller holds the gate closed.
pub fn require_unowned(catalog: &Catalog, tables: &[pg_sys::Oid]) -> Result<()> {
    tables.iter().try_for_each(|&table| unowned(&facts(catalog, table, tables)?))
}

/// A new projection's tables are empty, and what its handler will find by their names.
fn check_contents(
    catalog: &Catalog,
    kind: Kind,
    tables: &[pg_sys::Oid],
    owner: pg_sys::Oid,
    settings: &Settings,
) -> Result<()> {
    for &table in tables {
        let name = facts(catalog, table, tables)?.name;
        if !is_empty(owner, settings, &name)? {
            return Err(Error::wrong_state(format!("table {name} is not empty"))
                .detail("A new projection's model is built from the log alone.")
                .hint("Truncate the table, or create another."));
        }
    }
    if kind == Kind::Fold {
        return Ok(());
    }
    identity::as_owner(owner, settings, || super::table::require_found_by_name(catalog, tables))
}

fn check_table(facts: &Facts, new: bool) -> Result<()> {
    let name = &facts.name;
    if new && let Some(other) = &facts.projection {
        return Err(Error::in_use(format!("table {name} belongs to projection \"{other}\"")).hint(
            "A table belongs to one projection; let that one's handler write it, or drop that projection.",
        ));
    }
    let refuse = |why: &str, hint: &str| {
        Err(Error::unsupported(format!("table {name} cannot be a read model")).detail(why).hint(hint))
    };
    if facts.system {
        return refuse("It belongs to the system.", "Name a table of your own.");
    }
    if facts.kind != "r" || facts.inherits {
        return refuse(
            "It is not an ordinary table, or has parents or children.",
            "Use a table without partitions and inheritance.",
        );
    }
    if facts.persistence != "p" {
        return refuse("It is temporary or unlogged: a crash would empty it.", "Use a permanent table.");
    }
    if !facts.has_key {
        return refuse(
            "It has no primary key, or a deferrable one.",
            "Add a primary key: ALTER TABLE ... ADD PRIMARY KEY.",
        );
    }
    if facts.has_before_trigger {
        return refuse(
            "It has a BEFORE row trigger, which would change rows again in each rebuild.",
            "Do in the handler what the trigger does.",
        );
    }
    if facts.has_rule {
        return refuse("It has a rule.", "Do in the handler what the rule does.");
    }
    if facts.forces_row_security {
        return refuse(
            "Its row-level security is forced on its owner, so a rebuild might not see all rows.",
            "Use ALTER TABLE ... NO FORCE ROW LEVEL SECURITY.",
        );
    }
    if facts.draws_from_sequence {
        return refuse(
            "It has a column that draws from a sequence, which would number its rows anew in each rebuild.",
            "Let the handler number rows by what the events say, such as event.position.",
        );
    }
    if facts.unique_and_referenced {
        return refuse(
            "It has a second unique key and is referenced by a foreign key: a rebuild could not swap unique values.",
            "Drop the foreign key or the second unique key.",
        );
    }
    if facts.has_deferred {
        return refuse(
            "It has an initially deferred constraint or trigger, which would run after the handler, with the rights of whoever appends.",
            "Use ALTER TABLE ... ALTER CONSTRAINT ... INITIALLY IMMEDIATE.",
        );
    }
    if facts.cascades {
        return refuse(
            "It has a foreign key to a table of the same projection that cascades: the copies of a rebuild have no foreign keys.",
            "Declare it NO ACTION and let the handler do what the cascade does.",
        );
    }
    if facts.key_is_vague {
        return refuse(
            "Its primary key has a nondeterministic collation.",
            "Use a deterministic collation, and lower() or the like in the key function.",
        );
    }
    Ok(())
}

/// Asked as the table's owner: only catalogs are read with refold's own rights.
fn is_empty(owner: pg_sys::Oid, settings: &Settings, qualified: &str) -> Result<bool> {
    let sql = format!("SELECT NOT EXISTS (SELECT FROM ONLY {qualified})");
    identity::as_owner(owner, settings, || {
        spi::query_once(&sql, &[], spi::Snapshot::Latest, |rows| rows.need(0, 0))
    })
}

fn check_handler(
    catalog: &Catalog,
    kind: Kind,
    handler: &Function,
    tables: &[pg_sys::Oid],
    owner: pg_sys::Oid,
) -> Result<()> {
    require_execute(catalog, handler, owner)?;
    let refuse = |why: String, hint: &str| {
        Err(Error::bad_function(format!("{} cannot be a handler", handler.signature)).detail(why).hint(hint))
    };
    if handler.security_definer {
        return refuse(
            "It is SECURITY DEFINER, so it would not run as the owner of the projection's tables.".to_owned(),
            "Create it as SECURITY INVOKER.",
        );
    }
    let source = function::without_comments(&handler.source);
    if mentions(catalog, &source, r"\mappend_events?\M")? {
        return refuse(
            "It appends events.".to_owned(),
            "Append events where the command is handled, not in a handler.",
        );
    }
    if kind == Kind::Fold {
        if handler.strict {
            return refuse(
                "It is STRICT, so it would never see the first event of a key.".to_owned(),
                "Create it as CALLED ON NULL INPUT: its state is NULL where there is no row yet.",
            );
        }
        return Ok(());
    }
    if handler.sets_search_path {
        return refuse(
            "It sets search_path, so a rebuild could not lead its table names to a copy.".to_owned(),
            "Leave SET search_path out: the search_path at the projection's creation is set whenever it runs.",
        );
    }
    if handler.bound {
        return refuse(
            "Its body is BEGIN ATOMIC, bound to the live tables, so a rebuild could not lead it to a copy."
                .to_owned(),
            "Write the body as a string.",
        );
    }
    for &table in tables {
        if let Some(name) = qualified_mention(catalog, &source, table)? {
            return refuse(
                format!("It names table {name} with its schema, so a rebuild could not lead it to a copy."),
                "Name the projection's tables without a schema.",
            );
        }
    }
    Ok(())
}

/// The table's name if the source has it behind its schema.
fn qualified_mention(catalog: &Catalog, source: &str, table: pg_sys::Oid) -> Result<Option<String>> {
    const SQL: &str = r#"SELECT CASE WHEN $2 ~* format('(^|[^[:alnum:]_$])"?%s"?\s*\.\s*"?%s"?($|[^[:alnum:]_$])',
          regexp_replace(n.nspname, '(\W)', '\\\1', 'g'), regexp_replace(c.relname, '(\W)', '\\\1', 'g'))
        THEN format('%I.%I', n.nspname, c.relname) END
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = $1"#;
    let args = [spi::arg(table), spi::arg(source)];
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &args, spi::Snapshot::Latest, |rows| Ok(rows.get(0, 0)))
    })
}

fn mentions(catalog: &Catalog, source: &str, pattern: &str) -> Result<bool> {
    let args = [spi::arg(source), spi::arg(pattern)];
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once("SELECT $1 ~* $2", &args, spi::Snapshot::Latest, |rows| rows.need(0, 0))
    })
}

fn check_key(
    catalog: &Catalog,
    kind: Kind,
    key: Option<&Function>,
    tables: &[pg_sys::Oid],
    owner: pg_sys::Oid,
) -> Result<()> {
    if kind != Kind::Fold {
        return match key {
            None => Ok(()),
            Some(_) => Err(Error::bad_value("only a fold has a key").hint(
                "Leave key out; where rows take events of several streams and their order matters, set serial.",
            )),
        };
    }
    let table = tables.first().ok_or_else(|| Error::bad_value("a fold needs a table"))?;
    let table = super::table::Table::read(catalog, *table)?;
    let wanted: Vec<_> = table.key.iter().map(|column| column.value_type).collect();
    let Some(key) = key else {
        return if matches!(wanted[..], [pg_sys::TEXTOID | pg_sys::VARCHAROID]) {
            Ok(())
        } else {
            Err(Error::bad_value(format!("the primary key of {} is not a stream_id", table.qualified)).hint(
                "Give key, a function of refold.event that returns the primary key: one text column needs none.",
            ))
        };
    };
    require_execute(catalog, key, owner)?;
    let fits = key.plain && !key.returns_set && key.arguments == [catalog.event_type];
    // A row of one column is another type than the column.
    let of_one_column = matches!(wanted[..], [column] if key.result != column);
    if !fits || key.columns != wanted || of_one_column {
        return Err(Error::bad_function(format!("{} is not a key of {}", key.signature, table.qualified))
            .detail("A key takes one refold.event and returns the primary key's type, for several columns a row of their types.")
            .hint("NULL means that the event is not for this projection."));
    }
    match key.columns.iter().find(|&&column| !types::is_hashable(column)) {
        None => Ok(()),
        Some(&column) => Err(Error::bad_function(format!("{} is not a key", key.signature))
            .detail(format!("Its type {} cannot be hashed.", types::qualified_name(column)))
            .hint("Use a type with a hash operator class, such as its text.")),
    }
}

fn require_execute(catalog: &Catalog, function: &Function, owner: pg_sys::Oid) -> Result<()> {
    const SQL: &str = "SELECT has_function_privilege($1, $2, 'EXECUTE'), pg_get_userbyid($1)::text";
    let args = [spi::arg(owner), spi::arg(function.oid)];
    identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(SQL, &args, spi::Snapshot::Latest, |rows| {
            if rows.need(0, 0)? {
                return Ok(());
            }
            let owner: String = rows.need(0, 1)?;
            Err(Error::not_allowed(format!("permission denied for function {}", function.signature))
                .detail(format!("It runs as \"{owner}\", the owner of the projection's tables."))
                .hint("Use GRANT EXECUTE ON FUNCTION."))
        })
    })
}

/// A replay reads the log as the projection's owner.
fn require_log_access(catalog: &Catalog, owner: pg_sys::Oid) -> Result<()> {
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
