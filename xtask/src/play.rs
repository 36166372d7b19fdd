//! The small tasks: build, install, psql.

use anyhow::{Context, Result};
use nix::unistd::{AccessFlags, access};
use std::ffi::OsString;

use crate::install::{self, Profile};
use crate::interrupt;
use crate::server::{Server, ServerOptions};
use crate::toolchain::Postgres;
use crate::workspace::EXTENSION;

#[derive(Debug, clap::Args)]
pub struct PsqlArgs {
    /// Build the extension optimised
    #[arg(long)]
    release: bool,
    /// Leave the server's folder, with its log, when it has stopped
    #[arg(long)]
    keep: bool,
    /// What else psql gets, e.g. `-- -c 'SELECT ...'`
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

pub fn open_psql(pg: &Postgres, args: &PsqlArgs) -> Result<()> {
    let profile = if args.release { Profile::Release } else { Profile::Dev };
    let extension = install::build(pg, profile)?;
    let server =
        Server::start(pg, &extension, &ServerOptions { keep_on_drop: args.keep, ..Default::default() })?;
    server.create_database(EXTENSION)?;
    let mut client = server.config(EXTENSION).connect(postgres::NoTls)?;
    client.batch_execute("CREATE EXTENSION refold").context("CREATE EXTENSION refold failed")?;
    client.close()?;
    let mut psql = server.psql(EXTENSION);
    let status =
        interrupt::left_to_child(|| psql.args(&args.arguments).status()).context("cannot run psql")?;
    anyhow::ensure!(status.success(), "psql ended: {status}");
    Ok(())
}

pub fn build(pg: &Postgres, profile: Profile) -> Result<()> {
    let extension = install::build(pg, profile)?;
    println!("{} {} for PostgreSQL {}", EXTENSION, extension.version, pg.major);
    println!("{}", extension.library.display());
    Ok(())
}

/// Installs an optimised build into the PostgreSQL itself.
pub fn install(pg: &Postgres) -> Result<()> {
    // Asked before the build, which takes minutes.
    for folder in [&pg.pkglibdir, &pg.sharedir.join("extension")] {
        access(folder.as_path(), AccessFlags::W_OK).with_context(|| {
            let folder = folder.display();
            format!("you may not write to {folder}: install as its owner (root, if it is Debian's)")
        })?;
    }
    let extension = install::build(pg, Profile::Release)?;
    extension.install_into(&pg.pkglibdir, &pg.sharedir)?;
    println!("{EXTENSION} {} is installed into {}", extension.version, pg.version);
    println!("now say CREATE EXTENSION {EXTENSION} in a database of it");
    Ok(())
}
