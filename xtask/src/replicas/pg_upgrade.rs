//! `pg_upgrade` to the newest version: a store with projections of every kind and with rebuilds that have not ended.

use anyhow::{Context, Result, ensure};
use postgres::Client;
use std::process::Command;

use super::Cases;
use super::pair::{is_true, run as execute, value};
use crate::crash::case::wait_for;
use crate::dump::facts::{Fact, facts, require_same, require_sound, require_verified};
use crate::dump::{ROLES, SHOP, commands_work, connect, refuses_plain_inserts};
use crate::install::{self, Profile};
use crate::packages;
use crate::server::{Server, ServerOptions};
use crate::server_log;
use crate::toolchain::{Postgres, SUPPORTED};

pub const NAMES: &[&str] = &["pg_upgrade: by copying the files", "pg_upgrade: by linking them"];
const MODES: [&str; 2] = ["--copy", "--link"];
const DATABASE: &str = "shop";

/// What pg_upgrade calls.
const OLD_PROGRAMS: [&str; 3] = ["pg_ctl", "pg_controldata", "pg_resetwal"];
const NEW_PROGRAMS: [&str; 9] = [
    "pg_upgrade",
    "pg_ctl",
    "pg_controldata",
    "pg_resetwal",
    "pg_dump",
    "pg_dumpall",
    "pg_restore",
    "psql",
    "vacuumdb",
];

/// A job that has met an error, and one in its grace period.
const JOBS: &str = "SET search_path = shop;
    CREATE FUNCTION fails(state \"Cart\", event refold.event) RETURNS \"Cart\" LANGUAGE plpgsql AS
      'BEGIN RAISE ''on purpose''; END';
    CREATE FUNCTION add_more(events refold.event[]) RETURNS void LANGUAGE sql AS
      'INSERT INTO tally AS t SELECT e.event_type, 2 * count(*) FROM unnest(events) AS e GROUP BY 1
       ON CONFLICT (event_type) DO UPDATE SET n = t.n + excluded.n';
    ALTER FUNCTION fails OWNER TO \"Shop Owner\";
    ALTER FUNCTION add_more OWNER TO \"Shop Owner\";
    SELECT refold.start_rebuild('Cart', 'fails(\"Cart\", refold.event)');
    SELECT refold.start_rebuild('tally', 'add_more(refold.event[])', grace => '1 day')";
const OPEN_JOBS: &str =
    "SELECT coalesce(string_agg(concat_ws(' ', projection, state, phase), ', ' ORDER BY projection), '')
    FROM refold.rebuild_jobs WHERE state IN ('running', 'paused')";

/// Arguments: the old cluster, a folder to work in, the new cluster's folder, the folders of the old and the new programs, a
/// port, the mode.
const SCRIPT: &str = r#"
    old=$1 work=$2 new=$3 oldbin=$4 newbin=$5 port=$6 mode=$7
    cp -a "$old" "$work/old"
    cd "$work"
    checksums=$("$newbin/initdb" --help | grep -o -- --no-data-checksums || true)
    "$newbin/initdb" --auth=trust --no-sync --locale=C.UTF-8 --encoding=UTF8 $checksums --username postgres --pgdata "$new"
    if ! told=$("$newbin/pg_upgrade" --old-datadir "$work/old" --new-datadir "$new" --old-bindir "$oldbin" --new-bindir "$newbin" \
        --username postgres --socketdir "$work" --old-port "$port" --new-port "$port" --no-sync "$mode" 2>&1); then
      printf '%s\n' "$told" >&2
      find "$new/pg_upgrade_output.d" -type f -exec tail -n 20 {} + >&2
      exit 1
    fi"#;

pub fn run(pg: &Postgres, cases: &mut Cases) -> Result<()> {
    let newest = packages::provide_version(*SUPPORTED.last().context("no version is supported")?)?;
    let old = Old::create(pg)?;
    for (name, mode) in NAMES.iter().zip(MODES) {
        let name = format!("{name}, {} to {}", pg.major, newest.major);
        cases.case(&name, || upgrade(&old, &newest, mode));
    }
    Ok(())
}

/// The cluster that is upgraded, stopped, and what was in it.
struct Old {
    server: Server,
    facts: Vec<Fact>,
    last_drawn: i64,
}

impl Old {
    fn create(pg: &Postgres) -> Result<Self> {
        let server = Server::start(pg, &install::build(pg, Profile::Dev)?, &ServerOptions::default())?;
        server.stage_programs(pg, &OLD_PROGRAMS)?;
        // Transaction ids have been around more than once.
        server.stop()?;
        let mut command = Command::new(server.program("pg_resetwal"));
        command.args(["--epoch=5", "--pgdata"]).arg(server.data_dir());
        let output = server.as_account(command).output().context("cannot run pg_resetwal")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        server.restart()?;

        execute(&mut connect(&server, "postgres")?, ROLES)?;
        server.create_database(DATABASE)?;
        let mut client = connect(&server, DATABASE)?;
        execute(&mut client, SHOP)?;
        require_sound(&mut client)?;
        execute(&mut client, JOBS)?;
        let expected = "Cart paused building, tally running grace";
        wait_for(|| Ok((value::<String>(&mut client, OPEN_JOBS)? == expected).then_some(())))?;
        append(&mut client)?;
        let facts = content(&mut client)?;
        let last_drawn = value(&mut client, "SELECT last_value FROM refold.event_position_seq")?;
        drop(client);
        server.stop()?;
        Ok(Self { server, facts, last_drawn })
    }
}

/// The log and the models.
fn content(client: &mut Client) -> Result<Vec<Fact>> {
    let mut facts = facts(client)?;
    let models = facts.iter().position(|fact| fact.what() == "registry").context("there is no registry")?;
    facts.truncate(models);
    Ok(facts)
}

fn append(client: &mut Client) -> Result<i64> {
    value(
        client,
        "SELECT position FROM refold.append_event('cart-1', 'sold', '{\"sku\": \"sku-1\", \"n\": 1}')",
    )
}

fn upgrade(old: &Old, newest: &Postgres, mode: &str) -> Result<()> {
    let extension = install::build(newest, Profile::Dev)?;
    let failed = std::cell::RefCell::new(Ok(()));
    let server = Server::start_on(newest, &extension, &ServerOptions::default(), |new| {
        *failed.borrow_mut() = new.stage_programs(newest, &NEW_PROGRAMS);
        command(&old.server, new, mode)
    })?;
    failed.into_inner()?;
    let mut client = connect(&server, DATABASE)?;
    require_same(&old.facts, &content(&mut client)?)?;
    let horizons = "SELECT max(horizon::text::numeric) BETWEEN 5 * 4294967296.0 AND pg_current_xact_id()::text::numeric FROM refold.event";
    ensure!(is_true(&mut client, horizons)?, "events have horizons of a future that has not come");

    execute(&mut client, "SELECT refold.open_store()")?;
    let jobs: String = value(&mut client, OPEN_JOBS)?;
    ensure!(jobs == "Cart paused building, tally paused grace", "the jobs are: {jobs}");
    let position = append(&mut client)?;
    ensure!(position == old.last_drawn + 1, "position {position} comes after {}", old.last_drawn);
    execute(&mut client, "SELECT refold.cancel_rebuild('Cart'); SELECT refold.finish_rebuild('tally')")?;
    wait_for(|| Ok(value::<String>(&mut client, OPEN_JOBS)?.is_empty().then_some(())))?;
    append(&mut client)?;
    require_verified(&mut client, true)?;
    refuses_plain_inserts(&mut client)?;
    // A body that was parsed when the function was made can be printed otherwise by another version: stale until rebuilt.
    commands_work(&mut client)?;
    require_sound(&mut client)?;
    server_log::check(&server.log_file())
}

fn command(old: &Server, new: &Server, mode: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-ec", SCRIPT, "sh"]).arg(old.data_dir()).arg(new.socket_dir()).arg(new.data_dir());
    command.arg(old.program("")).arg(new.program("")).arg(new.port().to_string()).arg(mode);
    command
}
