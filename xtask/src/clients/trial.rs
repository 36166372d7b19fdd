//! What happens to a client while it runs, and what must come of it.
//!
//! Nothing here depends on time. The client is overtaken because another append to its stream is open when it begins: it
//! reads, then waits for the stream, and only then the other append commits. Its rebuild is seen at work because a snapshot
//! that is older holds it back until the client has printed that it waits.

use anyhow::{Context, Result, bail, ensure};
use postgres::{Client, NoTls};
use regex::Regex;
use std::fs;

use super::language::Language;
use super::page;
use super::program::Program;
use crate::crash::explain;
use crate::server::{Server, without_pg_environment};

/// The client's role, with the grants of the page on privileges.
const ROLE: &str = "client";
const GRANTS: &str = "
    GRANT USAGE ON SCHEMA refold TO client;
    GRANT EXECUTE ON FUNCTION refold.append_event, refold.append_events, refold.read_stream, refold.read_all TO client;
    GRANT EXECUTE ON FUNCTION refold.start_rebuild TO client;
    GRANT SELECT ON refold.event, stock TO client;";

/// What a client is refused with that was overtaken.
const REFUSAL: &str = "stream \"apple\" has changed since this transaction's snapshot";
const WAITING: &str = "waiting for snapshots: ";

/// The server and the role that the clients come in as.
pub struct World<'a> {
    server: &'a Server,
    password: String,
}

impl<'a> World<'a> {
    pub fn create(server: &'a Server) -> Result<Self> {
        let password = format!("{:032x}", rand::random::<u128>());
        let create = format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{password}' IN ROLE pg_monitor");
        connect(server, "postgres")?.batch_execute(&create).map_err(explain)?;
        Ok(Self { server, password })
    }

    /// The client is refused, reads again, and appends what is right by then; it shows its rebuild, and that ends well.
    pub fn is_overtaken(&self, language: Language) -> Result<()> {
        let database = Database::create(self.server, &format!("client_{}", language.name()))?;
        let mut reader = connect(self.server, &database.name)?;
        let mut snapshot = reader.build_transaction();
        snapshot = snapshot.isolation_level(postgres::IsolationLevel::RepeatableRead);
        let mut snapshot = snapshot.start().map_err(explain)?;
        snapshot.batch_execute("TABLE stock").map_err(explain)?;

        let mut program = self.overtake(language, &database, true)?;
        program.wait_for_line(|line| line.starts_with(WAITING))?;
        snapshot.commit().map_err(explain)?;
        let ended = program.wait_for_end()?;
        ensure!(ended.is_success, "it failed: {ended}");
        check_output(&ended.lines).with_context(|| format!("it printed: {ended}"))?;

        let refusals = database.refusals()?;
        ensure!(refusals == 1, "it was refused {refusals} times: the retry was not tried");
        database.require_log("apple delivered 50, apple delivered 20, apple restocked 30")?;
        database.require_rebuilt()
    }

    /// The same client without its retry ends with the refusal, and has appended nothing.
    pub fn fails_without_retry(&self, language: Language) -> Result<()> {
        let database = Database::create(self.server, &format!("client_{}_control", language.name()))?;
        let ended = self.overtake(language, &database, false)?.wait_for_end()?;
        ensure!(!ended.is_success, "it did not fail: {ended}");
        ensure!(ended.complaints.contains("has changed since"), "it failed otherwise: {ended}");
        let refusals = database.refusals()?;
        ensure!(refusals == 1, "it was refused {refusals} times");
        database.require_log("apple delivered 50, apple delivered 20")
    }

    /// Starts the client beside an open append to its stream, and commits that once the client waits for it.
    fn overtake(&self, language: Language, database: &Database, is_retrying: bool) -> Result<Program> {
        let mut command = language.prepare(is_retrying)?;
        let address = format!("{}/{}", self.server.address(), database.name);
        without_pg_environment(&mut command)
            .env("DATABASE_URL", language.url(&address, ROLE, &self.password));

        let mut other = connect(self.server, &database.name)?;
        let pid: i32 = other.query_one("SELECT pg_backend_pid()", &[]).map_err(explain)?.try_get(0)?;
        let mut append = other.transaction().map_err(explain)?;
        append
            .batch_execute("SELECT refold.append_event('apple', 'delivered', '{\"quantity\": 20}')")
            .map_err(explain)?;
        let mut program = Program::start(command)?;
        let mut observer = connect(self.server, &database.name)?;
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity
                      WHERE usename = $1 AND datname = current_database() AND $2 = ANY (pg_blocking_pids(pid)))";
        program
            .wait_until(|| Ok(observer.query_one(waits, &[&ROLE, &pid]).map_err(explain)?.try_get(0)?))?;
        append.commit().map_err(explain)?;
        Ok(program)
    }
}

/// A database with what the page's SQL makes; gone at the end.
struct Database<'a> {
    server: &'a Server,
    name: String,
}

impl<'a> Database<'a> {
    fn create(server: &'a Server, name: &str) -> Result<Self> {
        server.create_database(name)?;
        let mut client = connect(server, name)?;
        client.batch_execute(&page::sql()?).map_err(explain).context("the page's SQL failed")?;
        client.batch_execute(GRANTS).map_err(explain)?;
        Ok(Self { server, name: name.to_owned() })
    }

    /// How often the server has refused the client, as its log says.
    fn refusals(&self) -> Result<usize> {
        let log = fs::read(self.server.log_file())?;
        let log = String::from_utf8_lossy(&log);
        let refusal = Regex::new(&format!(" {} .*ERROR:  {}", self.name, regex::escape(REFUSAL)))?;
        Ok(refusal.find_iter(&log).count())
    }

    /// The log has these events, and the model is what they make.
    fn require_log(&self, expected: &str) -> Result<()> {
        let mut client = connect(self.server, &self.name)?;
        let log = "SELECT string_agg(concat_ws(' ', stream_id, event_type, data->>'quantity'), ', ' ORDER BY position)
                     FROM refold.event";
        let log: String = client.query_one(log, &[]).map_err(explain)?.try_get(0)?;
        ensure!(log == expected, "the log has {log}; expected: {expected}");
        let sum = "SELECT (SELECT string_agg(s::text, ' ') FROM stock AS s) = (
                     SELECT ROW('apple', sum((data->>'quantity')::int))::text FROM refold.event)";
        let holds: bool = client.query_one(sum, &[]).map_err(explain)?.try_get(0)?;
        ensure!(holds, "the model is not the sum of the log");
        let wrong = client.query("SELECT * FROM refold.verify_projection('stock')", &[]).map_err(explain)?;
        ensure!(wrong.is_empty(), "the model has {} wrong rows", wrong.len());
        Ok(())
    }

    /// The client's job has made the model anew.
    fn require_rebuilt(&self) -> Result<()> {
        let mut client = connect(self.server, &self.name)?;
        let jobs = "SELECT string_agg(concat_ws(' ', j.kind, j.state, 'by', j.started_by), ', ') || format(
                      '; %s, generation %s', p.state, p.generation)
                      FROM refold.rebuild_jobs AS j JOIN refold.projections AS p ON p.name = j.projection
                     GROUP BY p.state, p.generation";
        let row = client.query_opt(jobs, &[]).map_err(explain)?.context("there is no job")?;
        let found: String = row.try_get(0)?;
        ensure!(found == "concurrent done by client; active, generation 2", "{found}");
        Ok(())
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        self.server.drop_database(&self.name).ok();
    }
}

fn connect(server: &Server, database: &str) -> Result<Client> {
    server.config(database).options("-c statement_timeout=60s").connect(NoTls).map_err(explain)
}

/// Each line is what it should be; that the rebuild has been seen to wait is known by now.
fn check_output(lines: &[String]) -> Result<()> {
    let progress = Regex::new(r"^[a-z ]+: (\d+) of (\d+) events$")?;
    let [ordered, shown @ .., rebuilt] = lines else { bail!("too few lines") };
    ensure!(ordered == "apple: 30 ordered, 100 in stock", "{ordered}");
    ensure!(rebuilt == "stock is rebuilt", "{rebuilt}");
    for line in shown {
        ensure!(progress.is_match(line), "{line}");
    }
    Ok(())
}
