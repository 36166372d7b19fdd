//! A reader: compares models with the log inside one snapshot, at every isolation level.

use anyhow::{Result, anyhow};
use rand::RngExt;
use rand::rngs::StdRng;
use std::thread;
use std::time::Duration;

use crate::operation::Operation;
use crate::oracle::{self, Looks, Model, Seen};
use crate::plan::{Isolation, generator};
use crate::session::{Fault, Role, Session};
use crate::shared::Shared;

pub struct Reader<'a> {
    session: Session<'a>,
    shared: &'a Shared,
    looks: Looks,
    rng: StdRng,
    /// Its only isolation level, if it has but one.
    isolation: Option<Isolation>,
}

impl<'a> Reader<'a> {
    pub fn open(shared: &'a Shared, number: u64, looks: Looks, user: Option<&str>) -> Result<Self> {
        let session = Session::open(shared, Role::Reader, user)?;
        Ok(Self { session, shared, looks, rng: generator(shared.seed, 3000 + number), isolation: None })
    }

    /// Only at this level.
    pub fn at(self, isolation: Isolation) -> Self {
        Self { isolation: Some(isolation), ..self }
    }

    pub fn run(mut self) -> Result<()> {
        while !self.shared.is_over() {
            let drawn = Isolation::draw(&mut self.rng, 30, 50, 20);
            let isolation = self.isolation.unwrap_or(drawn);
            if let Err(fault) = self.read(isolation) {
                self.session.overcome(Operation::Look, fault)?;
            }
            thread::sleep(Duration::from_millis(self.rng.random_range(0..=60)));
        }
        Ok(())
    }

    fn read(&mut self, isolation: Isolation) -> Result<(), Fault> {
        let mut models: Vec<&Model> =
            (0..2).map(|_| self.looks.pick(self.rng.random_range(0..usize::MAX))).collect();
        if self.looks.are_on_refold() && self.rng.random_bool(0.2) {
            self.read_views(isolation)?;
        }
        if isolation == Isolation::ReadCommitted {
            for model in models {
                oracle::look(&mut self.session.client, model, self.shared)?;
            }
            return Ok(());
        }
        let read_only = if self.rng.random_bool(0.5) { " READ ONLY" } else { "" };
        self.session.client.batch_execute(&format!("{}{read_only}", isolation.begin()))?;
        if self.looks.are_on_refold() && self.rng.random_bool(0.5) {
            models.extend(self.wait_for_swap()?);
        }
        let mut before: Vec<Option<Seen>> = vec![None; models.len()];
        for _ in 0..self.rng.random_range(1..=3) {
            for (model, before) in models.iter().zip(&mut before) {
                let now = oracle::look(&mut self.session.client, model, self.shared)?;
                if before.as_ref().is_some_and(|before| !is_same(before, &now)) {
                    let name = model.name;
                    return Err(Fault::Broken(anyhow!(
                        "{name} was {before:?} and is {now:?} in one snapshot"
                    )));
                }
                *before = Some(now);
            }
            thread::sleep(Duration::from_millis(self.rng.random_range(0..=150)));
        }
        Ok(self.session.client.batch_execute("COMMIT")?)
    }

    /// Keeps a snapshot for a while before it looks at a model, which may be swapped meanwhile.
    fn wait_for_swap(&mut self) -> Result<Option<&'static Model>, Fault> {
        let rows = self.session.client.query("SELECT projection FROM swapped_soon ORDER BY 1", &[])?;
        let pick = self.rng.random_range(0..1000_usize);
        let time = Duration::from_millis(self.rng.random_range(0..=1000));
        let Some(row) = pick.checked_rem(rows.len()).and_then(|index| rows.get(index)) else {
            return Ok(None);
        };
        let name: String = row.try_get(0)?;
        thread::sleep(time);
        Ok(self.looks.iter().find(|model| model.name == name))
    }

    /// What the views show must be true in every snapshot: here no handler is ever replaced without a rebuild.
    fn read_views(&mut self, isolation: Isolation) -> Result<(), Fault> {
        self.session.client.batch_execute(isolation.begin())?;
        self.session.client.query("SELECT * FROM refold.rebuild_progress", &[])?;
        thread::sleep(Duration::from_millis(self.rng.random_range(0..=20)));
        let sql = "SELECT name, state, generation FROM refold.projections WHERE state NOT IN ('active', 'rebuilding', 'incomplete')";
        if let Some(row) = self.session.client.query(sql, &[])?.first() {
            let (name, state, generation): (String, String, i64) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            return Err(Fault::Broken(anyhow!(
                "refold.projections shows {name} as {state}, of generation {generation}, at {isolation:?}"
            )));
        }
        Ok(self.session.client.batch_execute("COMMIT")?)
    }
}

/// Whether two looks of one transaction, whose first keeps the tables from being swapped, can both be true.
fn is_same(before: &Seen, now: &Seen) -> bool {
    match (before, now) {
        (None, None) => true,
        (Some((generation, shown)), Some((generation_now, shown_now))) => {
            let agree =
                shown.is_empty() || shown_now.is_empty() || shown.iter().any(|one| shown_now.contains(one));
            generation == generation_now && agree
        }
        _ => false,
    }
}
