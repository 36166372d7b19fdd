//! The other event stores: their packages, at the versions that `bench/peers` pins, in the target folder.

use anyhow::{Context, Result};
use clap::ValueEnum;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::logs::copy_tree;
use crate::packages;
use crate::workspace::{Workspace, run};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    Emmett,
    MessageDb,
    Eventsourcing,
}

impl Peer {
    /// On the command line, and its folder's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emmett => "emmett",
            Self::MessageDb => "message-db",
            Self::Eventsourcing => "eventsourcing",
        }
    }

    /// The programs that it needs, each with Debian's package of it.
    fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Emmett => &[("node", "nodejs"), ("npm", "npm")],
            Self::MessageDb => &[("npm", "npm"), ("psql", "postgresql-client")],
            Self::Eventsourcing => &[("python3", "python3"), ("pip3", "python3-pip")],
        }
    }

    /// The file that says which versions.
    fn pins(self) -> &'static str {
        match self {
            Self::Emmett | Self::MessageDb => "package-lock.json",
            Self::Eventsourcing => "requirements.txt",
        }
    }

    fn installer(self) -> Command {
        let words: &[&str] = match self {
            Self::Emmett | Self::MessageDb => {
                &["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            }
            Self::Eventsourcing => &[
                "pip3",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--root-user-action=ignore",
                "--no-deps",
                "--target",
                "packages",
                "--requirement",
                "requirements.txt",
            ],
        };
        let mut installer = Command::new(words[0]);
        installer.args(&words[1..]);
        installer
    }
}

/// Installs those that are not there yet and returns the folder where each has one of its own.
pub fn install(peers: &[Peer], workspace: &Workspace) -> Result<PathBuf> {
    let all = workspace.target.join("bench-peers");
    let needed = peers.iter().flat_map(|peer| peer.programs());
    packages::provide_programs(&needed.copied().collect::<Vec<_>>())?;
    for peer in peers {
        let source = workspace.root.join("bench/peers").join(peer.name());
        let folder = all.join(peer.name());
        install_one(*peer, &source, &folder).with_context(|| format!("cannot install {}", peer.name()))?;
    }
    Ok(all)
}

fn install_one(peer: Peer, source: &Path, folder: &Path) -> Result<()> {
    copy_tree(source, folder)?;
    let (pins, done) = (fs::read(folder.join(peer.pins()))?, folder.join("installed"));
    // What is there is of these versions, whole.
    if fs::read(&done).is_ok_and(|installed| installed == pins) {
        return Ok(());
    }
    eprintln!("installing {}", peer.name());
    fs::remove_dir_all(folder)
        .and_then(|()| fs::create_dir_all(folder))
        .context("cannot empty the folder")?;
    copy_tree(source, folder)?;
    run(peer.installer().current_dir(folder))?;
    Ok(fs::write(done, pins)?)
}
