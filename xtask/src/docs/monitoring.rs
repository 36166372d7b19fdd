//! Whether `docs/monitoring` works: each query of the exporter's file on a server, by a role that has `pg_monitor` and nothing
//! else; and the dashboard, which shows only what the queries give.

use anyhow::{Context, Result, bail, ensure};
use postgres::types::Type;
use postgres::{Client, NoTls};
use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;

use crate::server::Server;
use crate::workspace::Workspace;

const QUERIES: &str = "docs/monitoring/postgres_exporter.yaml";
const DASHBOARD: &str = "docs/monitoring/grafana.json";
/// Has alerts on the metrics.
const PAGE: &str = "docs/operations.md";

/// A store with a projection and a job in its grace period.
const STORE: [&str; 7] = [
    "CREATE EXTENSION refold",
    "CREATE TABLE model (stream_id text PRIMARY KEY, n bigint)",
    "CREATE FUNCTION fold(state model, event refold.event) RETURNS model LANGUAGE sql AS \
       $$ SELECT event.stream_id, coalesce(state.n, 0) + 1 $$",
    "CREATE FUNCTION fold_2(state model, event refold.event) RETURNS model LANGUAGE sql AS \
       $$ SELECT event.stream_id, coalesce(state.n, 0) + 2 $$",
    "SELECT refold.append_event('s', 't', '{}')",
    "SELECT refold.create_projection('model', 'fold(model, refold.event)')",
    "CALL refold.rebuild_projection_concurrently('model', 'fold_2(model, refold.event)', grace => '1 day')",
];
const OPEN_APPEND: &str = "BEGIN; SELECT refold.append_event('s', 't', '{}')";
const ROLE: &str = "docs_exporter";

pub fn check(server: &Server) -> Result<()> {
    let root = Workspace::current()?.root;
    let read =
        |name: &str| fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"));
    let families = families(&read(QUERIES)?)?;
    let used = used(&serde_json::from_str(&read(DASHBOARD)?).context(DASHBOARD)?)?;
    require_given(&used, &families)?;
    let named = Regex::new(r"\brefold_\w+")?;
    for metric in named.find_iter(&read(PAGE)?).map(|found| found.as_str()) {
        ensure!(used.contains_key(metric), "{PAGE} names {metric}, which no query gives");
    }
    on_server(server, &families)
}

/// What one query gives: its columns are the labels of a row and the metrics that have them.
#[derive(Debug, Default)]
struct Family {
    query: String,
    labels: BTreeSet<String>,
    metrics: BTreeSet<String>,
}

/// The file as postgres_exporter reads it, by the names that begin its metrics' names.
fn families(yaml: &str) -> Result<BTreeMap<String, Family>> {
    let file: BTreeMap<String, Value> = serde_saphyr::from_str(yaml).context(QUERIES)?;
    let mut families = BTreeMap::new();
    for (name, content) in file {
        let query = content["query"].as_str().with_context(|| format!("{name} has no query"))?;
        let mut family = Family { query: query.to_owned(), ..Family::default() };
        let columns = content["metrics"].as_array().with_context(|| format!("{name} has no metrics"))?;
        for (column, facts) in columns.iter().filter_map(Value::as_object).flatten() {
            ensure!(facts["description"].is_string(), "{name}.{column} has no description");
            let list = match facts["usage"].as_str() {
                Some("LABEL") => &mut family.labels,
                Some("GAUGE" | "COUNTER") => &mut family.metrics,
                other => bail!("{name}.{column} is of use {other:?}"),
            };
            list.insert(column.clone());
        }
        ensure!(!family.metrics.is_empty(), "{name} gives no metric");
        families.insert(name, family);
    }
    ensure!(!families.is_empty(), "{QUERIES} has no query");
    Ok(families)
}

fn on_server(server: &Server, families: &BTreeMap<String, Family>) -> Result<()> {
    server.create_database(ROLE)?;
    let mut owner = server.config(ROLE).connect(NoTls)?;
    for statement in STORE {
        owner.batch_execute(statement).context(statement)?;
    }
    let mut append = server.config(ROLE).connect(NoTls)?;
    append.batch_execute(OPEN_APPEND)?;
    owner.batch_execute(&format!("CREATE ROLE {ROLE} LOGIN IN ROLE pg_monitor"))?;
    let result = server.config(ROLE).user(ROLE).connect(NoTls).map_err(anyhow::Error::from).and_then(
        |mut exporter: Client| {
            families.iter().try_for_each(|(name, family)| {
                scrape(&mut exporter, family).with_context(|| format!("query {name}"))
            })
        },
    );
    append.batch_execute("ROLLBACK")?;
    owner.batch_execute(&format!("SELECT refold.finish_rebuild('model'); DROP ROLE {ROLE}"))?;
    result
}

/// Runs a query as the exporter does: each column has a use, labels tell the rows apart, the rest are numbers.
fn scrape(exporter: &mut Client, family: &Family) -> Result<()> {
    let rows = exporter.query(&family.query, &[])?;
    let columns = rows.first().context("it gives no row for a store in use")?.columns();
    let names: BTreeSet<_> = columns.iter().map(|column| column.name().to_owned()).collect();
    let wanted: BTreeSet<_> = family.labels.union(&family.metrics).cloned().collect();
    ensure!(names == wanted, "its columns are {names:?}, and {wanted:?} have a use");
    let numbers = [Type::INT4, Type::INT8, Type::FLOAT8, Type::NUMERIC];
    for column in columns.iter().filter(|column| family.metrics.contains(column.name())) {
        ensure!(numbers.contains(column.type_()), "{} is a {}", column.name(), column.type_());
    }
    let mut seen = HashSet::new();
    for row in &rows {
        let mut labels = Vec::new();
        for label in &family.labels {
            labels.push(row.try_get::<_, String>(label.as_str()).with_context(|| format!("label {label}"))?);
        }
        ensure!(seen.insert(labels.clone()), "two rows have the labels {labels:?}");
    }
    Ok(())
}

/// The metrics that the dashboard asks for, each with the labels that it shows of it.
fn used(dashboard: &Value) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let metric = Regex::new(r"\brefold_\w+")?;
    let label = Regex::new(r"\{\{\s*(\w+)\s*\}\}")?;
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut left = vec![dashboard];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(object) => {
                let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
                let labels = label.captures_iter(text("legendFormat")).map(|found| found[1].to_owned());
                let labels: BTreeSet<_> = labels.collect();
                for found in metric.find_iter(text("expr")).chain(metric.find_iter(text("query"))) {
                    used.entry(found.as_str().to_owned()).or_default().extend(labels.clone());
                }
                left.extend(object.values());
            }
            Value::Array(values) => left.extend(values),
            _ => {}
        }
    }
    ensure!(!used.is_empty(), "{DASHBOARD} shows nothing");
    Ok(used)
}

/// Each of them is given, with these labels; and what is given is shown.
fn require_given(
    used: &BTreeMap<String, BTreeSet<String>>,
    families: &BTreeMap<String, Family>,
) -> Result<()> {
    let mut given = BTreeMap::new();
    for (name, family) in families {
        given.extend(family.metrics.iter().map(|metric| (format!("{name}_{metric}"), &family.labels)));
    }
    for (metric, labels) in used {
        let known =
            given.get(metric).with_context(|| format!("{DASHBOARD} shows {metric}, which no query gives"))?;
        if let Some(label) = labels.difference(known).next() {
            bail!("{DASHBOARD} shows the label {label} of {metric}, which has none");
        }
    }
    if let Some(metric) = given.keys().find(|metric| !used.contains_key(*metric)) {
        bail!("{DASHBOARD} does not show {metric}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{families, require_given, used};
    use anyhow::Result;
    use serde_json::json;

    const FILE: &str = r#"
refold_a:
  query: SELECT 'x' AS name, 1 AS size
  metrics:
    - name: {usage: "LABEL", description: "its name"}
    - size: {usage: "GAUGE", description: "its size"}
"#;

    #[test]
    fn shows_what_is_given() -> Result<()> {
        let shows = |expr: &str, legend: &str| -> Result<()> {
            let panel = json!({"panels": [{"targets": [{"expr": expr, "legendFormat": legend}]}]});
            require_given(&used(&panel)?, &families(FILE)?)
        };
        assert!(shows("max(refold_a_size)", "{{name}}").is_ok());
        assert!(shows("max(refold_a_size)", "{{phase}}").is_err());
        assert!(shows("refold_a_size + refold_a_name", "").is_err());
        assert!(shows("up", "").is_err());
        Ok(())
    }

    #[test]
    fn reads_the_file() {
        assert!(families(FILE).is_ok());
        for (part, other) in [("GAUGE", "GUAGE"), ("GAUGE", "LABEL"), ("  query", "  sql"), ("its size", "")]
        {
            let faulty = FILE.replace(part, other).replace(", description: \"\"", "");
            assert!(families(&faulty).is_err(), "{faulty}");
        }
    }
}
