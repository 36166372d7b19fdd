//! Who the server runs as: ourselves, or an unprivileged user where we are root, whom PostgreSQL refuses.

use anyhow::{Context, Result};
use nix::unistd::{Uid, User};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

#[derive(Debug, Clone, Copy)]
pub enum Account {
    Ourselves,
    Other { uid: u32, gid: u32 },
}

impl Account {
    pub fn unprivileged() -> Result<Self> {
        if !Uid::effective().is_root() {
            return Ok(Self::Ourselves);
        }
        let user = match User::from_name("postgres")? {
            Some(user) => user,
            None => User::from_name("nobody")?.context("as root, a user `postgres` or `nobody` is needed")?,
        };
        Ok(Self::Other { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }

    /// Has `command` run as this account, without any of our groups.
    pub fn apply(self, command: &mut Command) -> &mut Command {
        match self {
            Self::Ourselves => command,
            Self::Other { uid, gid } => command.uid(uid).gid(gid),
        }
    }

    pub fn own(self, path: &Path) -> Result<()> {
        if let Self::Other { uid, gid } = self {
            chown(path, Some(uid), Some(gid))
                .with_context(|| format!("cannot give away {}", path.display()))?;
        }
        Ok(())
    }
}
