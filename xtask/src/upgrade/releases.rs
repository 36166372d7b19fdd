//! The released versions: `sql/released` has the script of each as it was released, and each step between two of them.
//!
//! Databases were made by these scripts, so none may ever change: `CHECKSUMS` has what they were. What comes after the last
//! release is one step, `sql/upgrade.sql`.

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::workspace::{EXTENSION, Workspace};

const CHECKSUMS: &str = "CHECKSUMS";
/// How the step after the last release begins: names mean what they say, and nobody appends meanwhile.
const OPENING: &str = "SET LOCAL search_path TO pg_catalog, pg_temp;\n\
    LOCK TABLE refold.gate IN SHARE ROW EXCLUSIVE MODE;\n";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u32>, String);

impl Version {
    pub fn parse(text: &str) -> Result<Self> {
        let numbers = text.split('.').map(str::parse).collect::<Result<Vec<u32>, _>>();
        Ok(Self(numbers.with_context(|| format!("{text:?} is no version"))?, text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.1
    }
}

/// A script by the name under which PostgreSQL looks for it.
#[derive(Debug, Clone)]
pub struct Script {
    pub name: String,
    pub text: String,
}

impl Script {
    /// The versions in the name: one that it installs, or two that it is a step between.
    fn versions(&self) -> Result<Vec<Version>> {
        let rest = self.name.strip_prefix(EXTENSION).and_then(|rest| rest.strip_suffix(".sql"));
        let rest = rest.and_then(|rest| rest.strip_prefix("--"));
        let rest = rest.with_context(|| format!("{} is no name of a script", self.name))?;
        rest.split("--").map(Version::parse).collect()
    }
}

/// What `sql/released` and `sql/upgrade.sql` hold.
#[derive(Debug)]
pub struct Releases {
    folder: PathBuf,
    scripts: Vec<Script>,
    /// Ascending.
    pub versions: Vec<Version>,
    /// The version of this checkout.
    pub current: Version,
    /// The step from the last release to it.
    step: Option<Script>,
}

impl Releases {
    pub fn read(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.root.join("sql/released");
        let mut scripts = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name != CHECKSUMS {
                scripts.push(Script { name, text: fs::read_to_string(&path)? });
            }
        }
        scripts.sort_by(|left, right| left.name.cmp(&right.name));
        let mut versions = Vec::new();
        for script in &scripts {
            if let [version] = &script.versions()?[..] {
                versions.push(version.clone());
            }
        }
        versions.sort();
        let current = Version::parse(&workspace.version)?;
        let last = versions.last().context("there is no released version")?;
        let step = fs::read_to_string(workspace.root.join("sql/upgrade.sql")).ok().map(|text| Script {
            name: format!("{EXTENSION}--{}--{}.sql", last.as_str(), current.as_str()),
            text,
        });
        Ok(Self { folder, scripts, versions, current, step })
    }

    pub fn last(&self) -> Result<&Version> {
        self.versions.last().context("there is no released version")
    }

    /// The steps that lead from the released versions to this one: they are installed with the extension.
    pub fn steps(&self) -> Result<Vec<Script>> {
        let mut steps = Vec::new();
        for script in &self.scripts {
            if script.versions()?.len() == 2 {
                steps.push(script.clone());
            }
        }
        steps.extend(self.step.clone());
        Ok(steps)
    }

    /// The script of the version that a step begins at.
    pub fn before(&self, step: &Script) -> Result<&Script> {
        let from = step.versions()?.first().map(|version| format!("{EXTENSION}--{}.sql", version.as_str()));
        let found = self.scripts.iter().find(|script| Some(&script.name) == from.as_ref());
        found.with_context(|| format!("{} begins at no released version", step.name))
    }

    /// All that a test needs to install any released version.
    pub fn scripts(&self) -> impl Iterator<Item = &Script> {
        self.scripts.iter().chain(&self.step)
    }

    /// Every released script is what it was.
    pub fn require_frozen(&self) -> Result<()> {
        let recorded = fs::read_to_string(self.folder.join(CHECKSUMS)).context("cannot read CHECKSUMS")?;
        require_unchanged(&self.scripts, &recorded)
    }

    /// There is one way from each release to the next, and from the last one to this version, if that is another.
    pub fn require_path(&self) -> Result<()> {
        for pair in self.versions.windows(2) {
            let name = format!("{EXTENSION}--{}--{}.sql", pair[0].as_str(), pair[1].as_str());
            ensure!(self.scripts.iter().any(|script| script.name == name), "there is no {name}");
        }
        let last = self.last()?;
        match &self.step {
            Some(_) if self.current == *last => {
                bail!(
                    "sql/upgrade.sql leads from {} to itself: raise the version in Cargo.toml",
                    last.as_str()
                )
            }
            None if self.current > *last => bail!("there is no sql/upgrade.sql from {}", last.as_str()),
            Some(step) => {
                let begins = step.text.lines().skip_while(|line| line.starts_with("--") || line.is_empty());
                let begins = begins.fold(String::new(), |text, line| text + line + "\n");
                ensure!(begins.starts_with(OPENING), "sql/upgrade.sql does not begin with\n{OPENING}");
            }
            None => {}
        }
        ensure!(self.current >= *last, "{} is older than {}", self.current.as_str(), last.as_str());
        Ok(())
    }

    /// Releases this version: its script and the step to it are frozen. Nothing that was frozen before changes.
    pub fn freeze(&self, install_script: &str) -> Result<Vec<PathBuf>> {
        self.require_frozen()?;
        self.require_path()?;
        ensure!(self.current > *self.last()?, "{} is released already", self.current.as_str());
        let name = format!("{EXTENSION}--{}.sql", self.current.as_str());
        let added = self.step.iter().cloned().chain([Script { name, text: install_script.to_owned() }]);
        let scripts: Vec<_> = self.scripts.iter().cloned().chain(added.clone()).collect();
        let mut written = Vec::new();
        for script in added {
            let path = self.folder.join(&script.name);
            fs::write(&path, &script.text)?;
            written.push(path);
        }
        fs::write(self.folder.join(CHECKSUMS), checksums(&scripts)?)?;
        let step = self.folder.with_file_name("upgrade.sql");
        if step.is_file() {
            fs::remove_file(step)?;
        }
        Ok(written)
    }
}

/// As `sha256sum` writes and checks them.
pub fn checksums(scripts: &[Script]) -> Result<String> {
    let mut lines: Vec<_> = scripts.iter().map(|script| (&script.name, checksum(&script.text))).collect();
    lines.sort();
    let mut text = String::new();
    for (name, sum) in lines {
        writeln!(text, "{sum}  {name}")?;
    }
    Ok(text)
}

fn checksum(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn require_unchanged(scripts: &[Script], recorded: &str) -> Result<()> {
    for script in scripts {
        let line = recorded.lines().find(|line| line.ends_with(&format!("  {}", script.name)));
        let line = line.with_context(|| format!("{} has no checksum", script.name))?;
        ensure!(
            line.starts_with(&checksum(&script.text)),
            "{} has changed since it was released: databases were made by it as it was",
            script.name
        );
    }
    for line in recorded.lines() {
        let name = line.split_once("  ").map(|(_, name)| name).unwrap_or(line);
        ensure!(scripts.iter().any(|script| script.name == name), "{name} was released, and is gone");
    }
    Ok(())
}
