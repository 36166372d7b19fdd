//! What is installed in a database, property by property, and how two installations differ.

use anyhow::{Context, Result, bail, ensure};
use postgres::Client;
use std::collections::BTreeMap;

use crate::crash::explain;

const CATALOG: &str = include_str!("catalog.sql");

/// Each property of each object, with its value.
pub struct Facts(BTreeMap<(String, String), String>);

impl Facts {
    pub fn read(client: &mut Client) -> Result<Self> {
        // Names with their schemas, whatever the database's search_path.
        client.batch_execute("SET search_path = pg_catalog").map_err(explain)?;
        let rows = client.query(CATALOG, &[]).map_err(explain).context("cannot read the catalogs")?;
        let mut facts = BTreeMap::new();
        for row in &rows {
            let (what, which): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let value = row.try_get::<_, Option<String>>(2)?.unwrap_or_default();
            let twice = facts.insert((what, which), value);
            ensure!(twice.is_none(), "the catalogs have {twice:?} twice");
        }
        ensure!(facts.len() > 500, "the extension has {} properties only", facts.len());
        Ok(Self(facts))
    }

    /// Fails with all differences.
    pub fn require_same(&self, upgraded: &Self) -> Result<()> {
        let mut differences = Vec::new();
        for ((what, which), fresh) in &self.0 {
            match upgraded.0.get(&(what.clone(), which.clone())) {
                None => differences.push(format!("{what} {which} is missing")),
                Some(found) if found != fresh => {
                    differences.push(format!("{what} {which} is\n  {found}\nand fresh\n  {fresh}"));
                }
                Some(_) => {}
            }
        }
        let superfluous = self.superfluous(upgraded);
        differences.extend(superfluous.map(|(what, which)| format!("{what} {which} is superfluous")));
        if differences.is_empty() { Ok(()) } else { bail!("{}", differences.join("\n")) }
    }

    fn superfluous<'a>(&'a self, upgraded: &'a Self) -> impl Iterator<Item = &'a (String, String)> {
        upgraded.0.keys().filter(|key| !self.0.contains_key(*key))
    }
}
