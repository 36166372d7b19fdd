//! `cargo xtask dump`: a database with refold is dumped and restored in every way, and goes on as if nothing had happened.
//!
//! `shop.sql` is what is dumped, `formats` says how, `tools` calls PostgreSQL's programs, `facts` compares. `cases` are the
//! restores that are not just another format.

mod cases;
pub mod facts;
mod formats;
mod tools;

use anyhow::{Context, Result, ensure};
use postgres::{Client, NoTls};
use std::fs;
use std::process::ExitCode;

use crate::crash::explain;
use crate::install::{self, Profile};
use crate::report::Report;
use crate::server::{Server, ServerOptions};
use crate::server_log;
use crate::toolchain::Postgres;
use facts::{Fact, facts, require_same, require_sound};
use formats::{FORMATS, Format};
use tools::Tools;

pub const ROLES: &str = include_str!("roles.sql");
pub const SHOP: &str = include_str!("shop.sql");
const SOURCE: &str = "shop";

/// The options of `cargo xtask dump`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the cases whose name has this in it
    #[arg(value_name = "TEXT")]
    only: Option<String>,
}

pub fn run(pg: &Postgres, args: &Args) -> Result<ExitCode> {
    let mut report = Report::default();
    all(pg, args.only.as_deref().unwrap_or_default(), &mut report)?;
    Ok(report.close())
}

/// What `cargo xtask test` runs.
pub fn smoke_tests(pg: &Postgres, report: &mut Report) -> Result<()> {
    all(pg, "", report)
}

fn all(pg: &Postgres, only: &str, report: &mut Report) -> Result<()> {
    let extension = install::build(pg, Profile::Dev)?;
    let mut server = Server::start(pg, &extension, &ServerOptions::default())?;
    // Its OIDs and transaction ids are others.
    let mut elsewhere = Server::start(pg, &extension, &ServerOptions::default())?;
    let world = World::create(pg, &server, &elsewhere)?;
    let failures_before = report.failures();
    let mut case = |name: &str, case: &dyn Fn() -> Result<()>| {
        if name.contains(only) {
            report.case(&format!("dump: {name}"), case);
        }
    };
    for format in &FORMATS {
        case(format.name, &|| world.round_trip(format));
    }
    for (name, run) in cases::CASES {
        case(name, &|| run(&world));
    }
    drop(world);
    for server in [&mut server, &mut elsewhere] {
        report.case("dump: server log", || server_log::check(&server.log_file()));
        if report.failures() > failures_before {
            println!("logs: {}", server.preserve_logs()?.display());
        }
    }
    Ok(())
}

/// The database that is dumped, and where it is restored.
struct World<'a> {
    server: &'a Server,
    elsewhere: &'a Server,
    tools: Tools<'a>,
    source: Vec<Fact>,
}

impl<'a> World<'a> {
    fn create(pg: &'a Postgres, server: &'a Server, elsewhere: &'a Server) -> Result<Self> {
        // Transaction ids and OIDs that the other server has not come to, or uses for something else.
        let ahead = "DO $$ BEGIN FOR i IN 1..3000 LOOP BEGIN CREATE TABLE x (); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN END; END LOOP; END $$";
        connect(server, "postgres")?.batch_execute(ahead).map_err(explain)?;
        let taken = "DO $$ BEGIN FOR i IN 1..50 LOOP EXECUTE format('CREATE ROLE r%s', i); END LOOP; END $$";
        connect(elsewhere, "postgres")?.batch_execute(taken).map_err(explain)?;
        for server in [server, elsewhere] {
            connect(server, "postgres")?.batch_execute(ROLES).map_err(explain)?;
        }
        server.create_database(SOURCE)?;
        let mut client = connect(server, SOURCE)?;
        client.batch_execute(SHOP).map_err(explain).context("the shop's set-up failed")?;
        require_sound(&mut client).context("before the dump")?;
        let folder = server.results_dir().join("dumps");
        fs::create_dir_all(&folder)?;
        Ok(Self { server, elsewhere, tools: Tools { pg, folder }, source: facts(&mut client)? })
    }

    fn round_trip(&self, format: &Format) -> Result<()> {
        let dump = self.tools.file(&format!("{}.dump", format.name));
        self.tools.dump(self.server, SOURCE, format.options, &dump)?;
        let database = format!("restored: {}", format.name);
        self.server.create_database(&database)?;
        (format.restore)(&self.tools, self.server, &database, &dump)?;
        let mut client = connect(self.server, &database)?;
        self.appends(&mut client)?;
        drop(client);
        self.server.drop_database(&database)
    }

    /// A restored database is the same, and works as the one that was dumped.
    fn goes_on(&self, client: &mut Client) -> Result<()> {
        self.appends(client)?;
        commands_work(client)?;
        require_sound(client).context("after rebuilds")
    }

    /// The same, as far as appends go.
    fn appends(&self, client: &mut Client) -> Result<()> {
        require_same(&self.source, &facts(client)?).context("after the restore")?;
        appends_go_on(client)?;
        require_sound(client).context("after an append")?;
        refuses_plain_inserts(client)
    }
}

pub fn connect(server: &Server, database: &str) -> Result<Client> {
    server.config(database).options("-c statement_timeout=60s").connect(NoTls).map_err(explain)
}

/// Positions and versions follow those of the log.
fn appends_go_on(client: &mut Client) -> Result<()> {
    const LAST: &str =
        "SELECT max(position), max(stream_version) FILTER (WHERE stream_id = 'cart-1') FROM refold.event";
    let last = client.query_one(LAST, &[]).map_err(explain)?;
    let (position, version): (i64, i64) = (last.try_get(0)?, last.try_get(1)?);
    client.batch_execute("SET ROLE shop_app").map_err(explain)?;
    let append = "SELECT * FROM refold.append_event('cart-1', 'sold', '{\"sku\": \"sku-1\", \"n\": 1}')";
    let appended = client.query_one(append, &[]).map_err(explain)?;
    client.batch_execute("RESET ROLE").map_err(explain)?;
    let (new_version, new_position): (i64, i64) = (appended.try_get(0)?, appended.try_get(1)?);
    ensure!(new_version == version + 1, "version {new_version} comes after {version}");
    ensure!(new_position == position + 1, "position {new_position} comes after {position}");
    Ok(())
}

pub fn refuses_plain_inserts(client: &mut Client) -> Result<()> {
    for table in ["event", "projection", "projection_table", "serial_turn", "skipped_event"] {
        let insert = format!(
            "INSERT INTO refold.{table} OVERRIDING SYSTEM VALUE SELECT * FROM refold.{table} WHERE false"
        );
        let code = client.batch_execute(&insert).err().and_then(|error| error.code().cloned());
        let code = code.as_ref().map(postgres::error::SqlState::code);
        ensure!(code == Some("42501"), "a plain insert into refold.{table} gives {code:?}");
    }
    Ok(())
}

pub fn commands_work(client: &mut Client) -> Result<()> {
    for sql in [
        "SELECT refold.rebuild_projection('Cart'); SELECT refold.rebuild_projection('journal')",
        "CALL refold.rebuild_projection_concurrently('sales of \"all\"')",
        "CALL refold.rebuild_projection_concurrently('tally')",
        "SET ROLE \"Shop Owner\"; SET search_path = shop; CREATE TABLE shop.late (LIKE shop.tally INCLUDING ALL);
         CREATE FUNCTION shop.late(event refold.event) RETURNS void LANGUAGE sql AS
           'INSERT INTO late AS t VALUES (event.event_type, 1) ON CONFLICT (event_type) DO UPDATE SET n = t.n + 1';
         SELECT refold.create_projection('late', 'late(refold.event)', '{late}'); RESET search_path; RESET ROLE",
        "SELECT refold.append_event('cart-2', 'returned', '{\"sku\": \"sku-2\", \"n\": 1}')",
    ] {
        client.batch_execute(sql).map_err(explain).with_context(|| sql.to_owned())?;
    }
    Ok(())
}
