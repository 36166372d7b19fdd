//! What of a database must be the same after a restore, and what must hold in each.

use anyhow::{Context, Result, ensure};
use postgres::Client;

use crate::crash::explain;

const MODELS: [&str; 4] = ["shop.\"Cart\"", "\"Odd \"\"Schema\"\"\".\"Sales\"", "shop.journal", "shop.tally"];

/// What the registry says, without what is this installation's alone.
const REGISTRY: &str = "SELECT concat_ws(' ', name, kind, state, generation, handler, tables, event_types, key, serial, owner, lag,
    created_at, rebuilt_at, rebuilt_events, rebuilt_in) FROM refold.projections ORDER BY name";
const REST: [(&str, &str); 5] = [
    (
        "settings of the projections",
        "SELECT concat_ws(' ', name, projection_id, search_path, time_zone, date_style, interval_style, flips, mode)
           FROM refold.projection ORDER BY 1",
    ),
    ("skipped events", "SELECT s::text FROM refold.skipped_event AS s ORDER BY 1"),
    ("turns", "SELECT t.projection_id::text FROM refold.serial_turn AS t ORDER BY 1"),
    (
        "privileges",
        "SELECT concat_ws(' ', p.oid::regprocedure, a.privilege_type, a.grantee::regrole)
           FROM pg_proc AS p, aclexplode(p.proacl) AS a WHERE p.pronamespace = 'refold'::regnamespace
         UNION ALL SELECT concat_ws(' ', c.oid::regclass, a.privilege_type, a.grantee::regrole)
           FROM pg_class AS c, aclexplode(c.relacl) AS a WHERE c.relnamespace = 'refold'::regnamespace
         UNION ALL SELECT concat_ws(' ', n.nspname, a.privilege_type, a.grantee::regrole)
           FROM pg_namespace AS n, aclexplode(n.nspacl) AS a WHERE n.nspname = 'refold' ORDER BY 1",
    ),
    (
        "the extension's members",
        "SELECT pg_describe_object(classid, objid, 0) FROM pg_depend
          WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
            AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'refold') ORDER BY 1",
    ),
];

/// A part of a database, line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    what: String,
    lines: Vec<String>,
}

impl Fact {
    pub fn what(&self) -> &str {
        &self.what
    }
}

/// Log, models, registry and privileges.
pub fn facts(client: &mut Client) -> Result<Vec<Fact>> {
    let mut facts = vec![fact(client, "log", "SELECT e::text FROM refold.event AS e ORDER BY e.position")?];
    for model in MODELS {
        facts.push(fact(client, model, &format!("SELECT m::text FROM {model} AS m ORDER BY 1"))?);
    }
    facts.push(fact(client, "registry", REGISTRY)?);
    for (what, sql) in REST {
        facts.push(fact(client, what, sql)?);
    }
    Ok(facts)
}

fn fact(client: &mut Client, what: &str, sql: &str) -> Result<Fact> {
    let rows = client.query(sql, &[]).map_err(explain).with_context(|| what.to_owned())?;
    let lines = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().context(what.to_owned())?;
    Ok(Fact { what: what.to_owned(), lines })
}

/// Fails with the first difference.
pub fn require_same(source: &[Fact], restored: &[Fact]) -> Result<()> {
    for (source, restored) in source.iter().zip(restored) {
        let pairs = source.lines.iter().zip(&restored.lines);
        for (source_line, line) in pairs {
            ensure!(source_line == line, "{}: {source_line:?} has become {line:?}", source.what);
        }
        let (before, after) = (source.lines.len(), restored.lines.len());
        ensure!(before == after, "{}: {before} lines have become {after}", source.what);
    }
    Ok(())
}

/// Fails unless every model is what the log says, each projection is active, and nothing of a rebuild is there.
pub fn require_sound(client: &mut Client) -> Result<()> {
    require_none(
        client,
        "broken",
        "SELECT concat_ws(' ', name, state) FROM refold.projections WHERE state <> 'active'",
    )?;
    require_verified(client, true)
}

/// The same, whatever state the projections show. In a restored store that nobody has opened, a reader who keeps one
/// snapshot cannot know which gaps are dead.
pub fn require_verified(client: &mut Client, opened: bool) -> Result<()> {
    const LEFT: &str = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'refold\\_%'
        UNION ALL SELECT j::text FROM refold.rebuild_job AS j WHERE state IN ('running', 'paused')";
    // The log says so without refold's help.
    const TWICE: &str = "SELECT m.cart_id FROM shop.\"Cart\" AS m FULL JOIN
        (SELECT stream_id, count(*) AS n FROM refold.event GROUP BY 1) AS e ON e.stream_id = m.cart_id
        WHERE m.items IS DISTINCT FROM e.n";
    // Streams without holes, and the log as a reader gets it who keeps one snapshot.
    const HOLES: &str = "SELECT stream_id FROM refold.event GROUP BY 1 HAVING max(stream_version) <> count(*)
        UNION ALL SELECT format('read_all has %s of %s', a.n, e.n) FROM (SELECT count(*) AS n FROM refold.read_all(max_count => 1000000)) AS a,
          (SELECT count(*) AS n FROM refold.event) AS e WHERE a.n <> e.n";
    require_none(
        client,
        "differs from the log",
        "SELECT format('%s: %s', p.name, v) FROM refold.projection AS p, refold.verify_projection(p.name) AS v",
    )?;
    require_none(client, "left", LEFT)?;
    require_none(client, "counted wrongly", TWICE)?;
    if !opened {
        return Ok(());
    }
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").map_err(explain)?;
    require_none(client, "has holes", HOLES)?;
    client.batch_execute("COMMIT").map_err(explain)
}

fn require_none(client: &mut Client, what: &str, sql: &str) -> Result<()> {
    let found = fact(client, what, sql)?;
    ensure!(found.lines.is_empty(), "{what}: {}", found.lines.join(", "));
    Ok(())
}
