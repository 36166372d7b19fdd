//! Calls the scripts, as a user does: through psql.

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use std::fs;
use std::path::{Path, PathBuf};

use super::source::{Place, Source};
use crate::logs::copy_tree;
use crate::workspace::Workspace;

/// A folder that has them.
pub struct Scripts {
    folder: PathBuf,
}

/// What came of a call.
#[derive(Debug)]
pub enum Outcome {
    /// How many events were copied.
    Copied(u64),
    Refused(Refused),
}

#[derive(Debug)]
pub struct Refused {
    pub code: String,
    /// All that psql says.
    pub text: String,
}

impl Scripts {
    pub fn of_checkout() -> Result<Self> {
        Ok(Self { folder: Workspace::current()?.root.join("sql/migrate") })
    }

    /// A copy below `folder` in which `from`, which must be there once, is `to`.
    pub fn altered(&self, folder: &Path, file: &str, from: &str, to: &str) -> Result<Self> {
        copy_tree(&self.folder, folder)?;
        let path = folder.join(file);
        let text = fs::read_to_string(&path)?;
        let found = text.matches(from).count();
        ensure!(found == 1, "{file} has {found} times {from:?}");
        fs::write(&path, text.replace(from, to))?;
        Ok(Self { folder: folder.to_owned() })
    }

    pub fn run(&self, place: &Place, source: &dyn Source, options: &[&str]) -> Result<Outcome> {
        let mut psql = place.server.psql(&place.database);
        // Nobody writes here without that we know.
        psql.args(["--set=VERBOSITY=verbose", "--set=settle=0"]);
        psql.args(source.options().iter().chain(options).map(|option| format!("--set={option}")));
        let output =
            psql.arg("--file").arg(self.folder.join(source.script())).output().context("cannot run psql")?;
        let (said, complaint) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        if output.status.success() {
            ensure!(complaint.is_empty(), "{complaint}");
            let copied =
                Regex::new(r"^(\d+) events were copied\. The log has all \d+ events of the \d+ streams")?;
            let captures = copied.captures(&said).with_context(|| format!("it says {said:?}"))?;
            return Ok(Outcome::Copied(captures[1].parse()?));
        }
        let refusal = Regex::new(r"ERROR:  ([0-9A-Z]{5}): ")?;
        match refusal.captures(&complaint) {
            Some(captures) => {
                let errors = complaint.matches("ERROR:  ").count();
                ensure!(errors == 1, "it has not ended at its first error:\n{complaint}");
                let code = captures[1].to_owned();
                Ok(Outcome::Refused(Refused { code, text: complaint }))
            }
            None => bail!("psql: {}: {complaint}", output.status),
        }
    }

    /// Runs it and expects that so many events are copied.
    pub fn copy(&self, place: &Place, source: &dyn Source, options: &[&str], expected: usize) -> Result<()> {
        match self.run(place, source, options)? {
            Outcome::Copied(copied) => {
                ensure!(copied == u64::try_from(expected)?, "{copied} events were copied, not {expected}");
                Ok(())
            }
            Outcome::Refused(refused) => bail!("{}", refused.text),
        }
    }

    /// Runs it and expects that it refuses.
    pub fn refuse(
        &self,
        place: &Place,
        source: &dyn Source,
        options: &[&str],
        code: &str,
    ) -> Result<Refused> {
        match self.run(place, source, options)? {
            Outcome::Copied(copied) => bail!("{copied} events were copied"),
            Outcome::Refused(refused) => {
                ensure!(refused.code == code, "{code} was expected:\n{}", refused.text);
                Ok(refused)
            }
        }
    }
}
