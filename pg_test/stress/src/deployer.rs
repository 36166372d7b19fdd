//! Creates and drops a projection again and again, and alters a table: behind the closed gate or without, with a rebuild
//! in the same transaction or without, committed or rolled back.

use anyhow::Result;
use rand::RngExt;
use rand::rngs::StdRng;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::operation::Operation;
use crate::plan::generator;
use crate::session::{Fault, OWNER, Role, Session};
use crate::shared::{Doing, Shared};

const DROP: &str = "SELECT refold.drop_projection('tally')";
const EMPTY: &str = "DELETE FROM tally";

pub struct Deployer<'a> {
    session: Session<'a>,
    shared: &'a Shared,
    rng: StdRng,
    /// Nothing beside a drop or a creation while the gate is closed, and no ALTER TABLE.
    short_gates: bool,
}

impl<'a> Deployer<'a> {
    pub fn open(shared: &'a Shared, short_gates: bool) -> Result<Self> {
        let session = Session::open(shared, Role::Deployer, Some(OWNER))?;
        Ok(Self { session, shared, rng: generator(shared.seed, 2000), short_gates })
    }

    pub fn run(mut self) -> Result<()> {
        while !self.shared.is_load_over() {
            thread::sleep(Duration::from_millis(self.rng.random_range(10..=400)));
            let (pid, from) = (self.session.pid, SystemTime::now());
            let (operation, statements) = if self.short_gates || self.rng.random_bool(0.6) {
                match self.exists() {
                    Ok(exists) => self.draw_tally(exists),
                    Err(error) => {
                        self.session.overcome(Operation::Look, Fault::Sql(error))?;
                        continue;
                    }
                }
            } else {
                (Operation::Alter, self.draw_alter())
            };
            let script = statements.join("; ");
            // An ALTER TABLE waits for the table's writers, and all appends behind it.
            let keeps_gate =
                operation == Operation::Alter || (operation == Operation::Drop && statements.len() > 1);
            self.shared.begin(pid, Doing { text: script.clone(), keeps_gate });
            let outcome = match self.execute(&statements) {
                Ok(()) => {
                    self.shared.stats.changed();
                    "done".to_owned()
                }
                Err(error) => {
                    let code = error.code().map_or("connection lost", |code| code.code()).to_owned();
                    self.session.overcome(operation, Fault::Sql(error))?;
                    code
                }
            };
            self.shared.timeline.add(from, format!("process {pid}: {script}: {outcome}"));
        }
        Ok(())
    }

    /// One by one: statements of one message would be one implicit transaction.
    fn execute(&mut self, statements: &[String]) -> Result<(), postgres::Error> {
        statements.iter().try_for_each(|statement| self.session.client.batch_execute(statement))
    }

    fn exists(&mut self) -> Result<bool, postgres::Error> {
        let sql = "SELECT EXISTS (SELECT FROM model_version WHERE projection = 'tally')";
        self.session.client.query_one(sql, &[])?.try_get(0)
    }

    fn draw_tally(&mut self, exists: bool) -> (Operation, Vec<String>) {
        let version = self.rng.random_range(1..=2);
        // Without its model, which whoever rebuilds it next builds.
        let build = self.rng.random_bool(0.7);
        let create = format!(
            "SELECT refold.create_projection('tally', 'tally_v{version}(tally,refold.event)', build => {build})"
        );
        let end = if self.rng.random_bool(0.8) { "COMMIT" } else { "ROLLBACK" };
        let draw = if self.short_gates { 0 } else { self.rng.random_range(0..100) };
        let words = |statements: &[&str]| statements.iter().map(|&statement| statement.to_owned()).collect();
        match (exists, draw) {
            // Nobody writes the table once that is committed.
            (true, 0..40) => (Operation::Drop, words(&[DROP])),
            (true, 40..70) => (Operation::Drop, words(&["BEGIN", DROP, EMPTY, end])),
            (true, _) => (Operation::Drop, words(&["BEGIN", DROP, EMPTY, &create, end])),
            (false, 0..50) => (Operation::Create, words(&[EMPTY, &create])),
            (false, _) => (Operation::Create, words(&["BEGIN", EMPTY, &create, end])),
        }
    }

    fn draw_alter(&mut self) -> Vec<String> {
        let end = if self.rng.random_bool(0.8) { "COMMIT" } else { "ROLLBACK" };
        let mut statements = vec!["BEGIN".to_owned(), "SET LOCAL lock_timeout = '100ms'".to_owned()];
        let closes = self.rng.random_bool(0.6);
        if closes {
            statements.push("SELECT refold.lock_gate()".to_owned());
        }
        let rebuilds = closes && self.rng.random_bool(0.6);
        // A default fills the rows there are, as no fold does: only before a rebuild.
        let default = if rebuilds { " DEFAULT 'x'" } else { "" };
        statements.push(match self.rng.random_range(0..2) {
            0 => format!("ALTER TABLE shelf ADD COLUMN IF NOT EXISTS note text{default}"),
            _ => "ALTER TABLE shelf DROP COLUMN IF EXISTS note".to_owned(),
        });
        if rebuilds {
            let version = self.rng.random_range(1..=2);
            statements.push(format!(
                "SELECT refold.rebuild_projection('shelf', 'shelf_v{version}(shelf,refold.event)')"
            ));
        }
        statements.push(end.to_owned());
        statements
    }
}
