//! Which functions can be a handler or a key.

use crate::error::{Error, Result};
use crate::pg::catalog::Catalog;
use crate::pg::{identity, spi, types};
use crate::projection::function::{self, Function};
use crate::projection::registry::Kind;
use pgrx::pg_sys;

/// Checks a handler of a kind for these tables, to be run as `owner`.
pub fn check_handler(
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

/// Checks the key of a projection; only a fold has one.
pub fn check_key(
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
    let table = crate::projection::table::Table::read(catalog, *table)?;
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
