//! `docs/sql-reference.md`: what the catalog says of refold's objects, written from it so that it cannot say anything else.

use anyhow::{Context, Result, ensure};
use postgres::{Client, NoTls};
use regex::Regex;
use std::fmt::Write as _;
use std::fs;

use crate::report::differences;
use crate::server::Server;
use crate::workspace::Workspace;

const PAGE: &str = "docs/sql-reference.md";
/// What to set the settings to.
const ADVICE: &str = "docs/settings.md";

const OPENING: &str = "# SQL reference

<!-- Written from the catalog by `cargo xtask docs --accept`; the tests compare. -->

Each object of the schema `refold` with its comment, as `\\df+`, `\\d+` and `pg_settings` show it. How they work together is
in the [guide](reference.md). Objects whose names begin with `_` are internal.
";

/// Fails if the page differs from what the catalog says, or writes it.
pub fn check(server: &Server, accept: bool) -> Result<()> {
    let database = "docs_sql_reference";
    server.create_database(database)?;
    let mut client = server.config(database).connect(NoTls)?;
    client.batch_execute("CREATE EXTENSION refold")?;
    let written = write_page(&mut client)?;
    let path = Workspace::current()?.root.join(PAGE);
    let shown = fs::read_to_string(&path).unwrap_or_default();
    if accept && shown != written {
        fs::write(&path, written)?;
        println!("accepted: {PAGE}");
        return Ok(());
    }
    ensure!(shown == written, "(cargo xtask docs --accept writes it)\n{}", differences(&shown, &written));
    Ok(())
}

fn write_page(client: &mut Client) -> Result<String> {
    let mut page = OPENING.to_owned();
    page += &routines(client)?;
    page += &relations(client)?;
    page += &settings(client)?;
    page += &grants(client)?;
    Ok(page)
}

/// Functions and procedures: signature, result and comment.
fn routines(client: &mut Client) -> Result<String> {
    const ROUTINES: &str = r"
        SELECT p.oid, p.proname::text, p.prokind = 'p', p.proretset, format_type(p.prorettype, NULL),
               obj_description(p.oid, 'pg_proc')
          FROM pg_proc AS p WHERE p.pronamespace = 'refold'::regnamespace AND p.proname NOT LIKE '\_%' ORDER BY 2";
    const ARGUMENTS: &str = "
        SELECT a.name, format_type(a.type, NULL), coalesce(p.proargmodes[a.n::int], 'i')::text,
               pg_get_function_arg_default(p.oid, a.n::int)
          FROM pg_proc AS p
         CROSS JOIN unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargnames)
                    WITH ORDINALITY AS a (type, name, n)
         WHERE p.oid = $1 AND a.type IS NOT NULL ORDER BY a.n";
    let mut text = "\n## Functions and procedures\n".to_owned();
    for routine in client.query(ROUTINES, &[])? {
        let name: String = routine.get(1);
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for argument in client.query(ARGUMENTS, &[&routine.get::<_, u32>(0)])? {
            let (argument_name, type_name): (String, String) = (argument.get(0), argument.get(1));
            let default: Option<String> = argument.get(3);
            let default = default.map(|value| format!(" = {}", without_cast(&value))).unwrap_or_default();
            let is_output = ["o", "t"].contains(&argument.get::<_, String>(2).as_str());
            let list = if is_output { &mut outputs } else { &mut inputs };
            list.push(format!("{argument_name} {type_name}{default}"));
        }
        let set = if routine.get(3) { "SETOF " } else { "" };
        let result = match (routine.get(2), outputs.is_empty()) {
            (true, _) => String::new(),
            (false, true) => format!(" RETURNS {set}{}", routine.get::<_, String>(4)),
            (false, false) => format!(" RETURNS {set}({})", outputs.join(", ")),
        };
        let call = if routine.get(2) { "CALL " } else { "" };
        let inputs = match inputs.join(", ") {
            one_line if one_line.len() <= 60 => one_line,
            _ => format!("\n  {}\n", inputs.join(",\n  ")),
        };
        let comment: String = comment(&name, routine.get(5))?;
        write!(text, "\n### {name}\n\n```text\n{call}refold.{name}({inputs}){result}\n```\n\n{comment}\n")?;
    }
    Ok(text)
}

/// A default without its type, which the argument has.
fn without_cast(value: &str) -> String {
    match Regex::new(r"^(NULL|'[^']*'|-?\d+)::.*$").map(|cast| cast.replace(value, "$1").into_owned()) {
        Ok(plain) => plain,
        Err(_) => value.to_owned(),
    }
}

/// Types, views, and the tables whose every column has a comment; the others with theirs.
fn relations(client: &mut Client) -> Result<String> {
    const RELATIONS: &str = r"
        SELECT c.oid, c.relname::text, c.relkind::text,
               CASE c.relkind WHEN 'c' THEN obj_description(c.reltype, 'pg_type') ELSE obj_description(c.oid, 'pg_class') END
          FROM pg_class AS c
         WHERE c.relnamespace = 'refold'::regnamespace AND c.relkind IN ('v', 'r', 'c') AND c.relname NOT LIKE '\_%'
         ORDER BY 2";
    const COLUMNS: &str = "
        SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), col_description(a.attrelid, a.attnum)
          FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let mut sections = [("v", String::new()), ("r", String::new()), ("c", String::new())];
    let mut others =
        "\n## Tables of refold's own\n\nNobody writes them, and few read them.\n\n| table | |\n|---|---|\n"
            .to_owned();
    for relation in client.query(RELATIONS, &[])? {
        let (name, kind): (String, String) = (relation.get(1), relation.get(2));
        let comment = comment(&name, relation.get(3))?;
        let mut table = "| column | type | |\n|---|---|---|\n".to_owned();
        let mut whole = true;
        let mut columns = 0;
        for column in client.query(COLUMNS, &[&relation.get::<_, u32>(0)])? {
            let (column_name, type_name): (String, String) = (column.get(0), column.get(1));
            let description: Option<String> = column.get(2);
            whole &= description.is_some();
            columns += 1;
            writeln!(
                table,
                "| `{column_name}` | {type_name} | {} |",
                cell(&description.unwrap_or_default())
            )?;
        }
        if whole && columns > 0 {
            let section =
                sections.iter_mut().find(|(of, _)| *of == kind).context("a relation of another kind")?;
            write!(section.1, "\n### {name}\n\n{comment}\n\n{table}")?;
        } else {
            ensure!(kind == "r", "a column of refold.{name} has no comment");
            writeln!(others, "| `{name}` | {} |", cell(&comment))?;
        }
    }
    let [(_, views), (_, tables), (_, types)] = sections;
    Ok(format!("\n## Views\n{views}\n## The log\n{tables}\n## Types\n{types}{others}"))
}

fn settings(client: &mut Client) -> Result<String> {
    const SETTINGS: &str = "
        SELECT s.name, coalesce(s.boot_val, ''), coalesce(s.unit, ''), s.min_val, s.max_val, s.context, s.short_desc,
               coalesce(s.extra_desc, '')
          FROM pg_settings AS s WHERE s.name LIKE 'refold.%' ORDER BY 1";
    let advice = fs::read_to_string(Workspace::current()?.root.join(ADVICE))?;
    client.batch_execute("LOAD 'refold'")?;
    let mut text = "\n## Settings\n\nWhat to set them to is in [settings](settings.md).\n\n\
        | setting | default | range | by whom | |\n|---|---|---|---|---|\n"
        .to_owned();
    for row in client.query(SETTINGS, &[])? {
        let column = |index: usize| row.get::<_, String>(index);
        ensure!(advice.contains(&format!("**`{}`**", column(0))), "{ADVICE} says nothing of {}", column(0));
        let (min, max): (Option<String>, Option<String>) = (row.get(3), row.get(4));
        let range = min.zip(max).map(|(min, max)| format!("{min} to {max}")).unwrap_or_default();
        let default = [column(1), column(2)].join(" ");
        let context = column(5);
        let by_whom = match context.as_str() {
            "user" => "anybody",
            "superuser" => "a superuser",
            "sighup" => "the configuration, at a reload",
            other => other,
        };
        let description = cell(&[column(6), column(7)].join(" "));
        writeln!(
            text,
            "| `{}` | {} | {range} | {by_whom} | {} |",
            column(0),
            default.trim(),
            description.trim()
        )?;
    }
    Ok(text)
}

/// What roles other than the owner may do.
fn grants(client: &mut Client) -> Result<String> {
    const GRANTS: &str = "
        SELECT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END, g.privilege_type, g.object
          FROM (SELECT (aclexplode(n.nspacl)).*, n.nspowner AS owner, 'schema ' || n.nspname AS object
                  FROM pg_namespace AS n WHERE n.nspname = 'refold'
                UNION ALL SELECT (aclexplode(c.relacl)).*, c.relowner, c.relname::text
                  FROM pg_class AS c WHERE c.relnamespace = 'refold'::regnamespace
                UNION ALL SELECT (aclexplode(coalesce(p.proacl, acldefault('f', p.proowner)))).*, p.proowner, p.proname::text
                  FROM pg_proc AS p WHERE p.pronamespace = 'refold'::regnamespace) AS g
         WHERE g.grantee <> g.owner ORDER BY 1 DESC, 2 DESC, 3";
    let mut text =
        "\n## Privileges\n\nWhat the extension grants; all else is the owner's until he grants it, see \
        [privileges](privileges.md).\n\n| to | privilege | on |\n|---|---|---|\n"
            .to_owned();
    let mut last = None;
    for row in client.query(GRANTS, &[])? {
        let (to, privilege, object): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        if last.as_ref() == Some(&(to.clone(), privilege.clone())) {
            text.truncate(text.trim_end_matches(" |\n").len());
            writeln!(text, ", `{object}` |")?;
        } else {
            writeln!(text, "| {to} | {privilege} | `{object}` |")?;
        }
        last = Some((to, privilege));
    }
    Ok(text)
}

fn comment(name: &str, comment: Option<String>) -> Result<String> {
    comment.with_context(|| format!("refold.{name} has no comment"))
}

/// As a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::{cell, without_cast};

    #[test]
    fn writes_plainly() {
        assert_eq!(without_cast("NULL::bigint"), "NULL");
        assert_eq!(without_cast("'{}'::jsonb"), "'{}'");
        assert_eq!(without_cast("'00:00:00'::interval"), "'00:00:00'");
        assert_eq!(without_cast("false"), "false");
        assert_eq!(cell("a|b"), "a\\|b");
    }
}
