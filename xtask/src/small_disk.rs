//! A file system of a few megabytes, to fill: in memory, mounted where only one server's processes see it, and gone
//! with the last of them, however they end.

use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

use crate::account::Account;

#[derive(Debug, Clone, Copy)]
pub struct SmallDisk {
    pub megabytes: u32,
}

/// Arguments: where to mount, the size, uid, gid, then the program and its arguments.
const SCRIPT: &str = r#"mkdir "$1" && mount -t tmpfs -o "size=$2m,uid=$3,gid=$4,mode=0700" refold "$1" &&
    uid=$3 gid=$4 && shift 4 && exec setpriv "--reuid=$uid" "--regid=$gid" --clear-groups -- "$@""#;

impl SmallDisk {
    /// `program`, run as `account` with this disk at `path`. Only root may mount.
    pub fn mounted_for(self, path: &Path, account: Account, program: &Path) -> Result<Command> {
        let Account::Other { uid, gid } = account else { bail!("only root can mount a small disk") };
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-ec", SCRIPT, "sh"]).arg(path);
        command.args([self.megabytes.to_string(), uid.to_string(), gid.to_string()]).arg(program);
        Ok(command)
    }
}
