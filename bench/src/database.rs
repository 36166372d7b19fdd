//! The server that we are given, and a database of it for each system.

use anyhow::{Context, Result};
use postgres::{Client, Config, NoTls};
use std::path::PathBuf;
use std::process::Command;

use crate::processor;

#[derive(Debug, Clone)]
pub struct Server {
    /// The folder of the socket.
    pub host: PathBuf,
    pub port: u16,
    pub user: String,
}

/// A database of its own for one system and one case.
#[derive(Debug, Clone)]
pub struct Database {
    pub server: Server,
    pub name: String,
}

impl Server {
    pub fn connect(&self, database: &str) -> Result<Client> {
        let mut config = Config::new();
        config.host_path(&self.host).port(self.port).user(&self.user).dbname(database);
        let mut client = config
            .application_name("bench")
            .connect(NoTls)
            .with_context(|| format!("cannot connect to the database {database}"))?;
        processor::share_with(client.query_one("SELECT pg_catalog.pg_backend_pid()", &[])?.get(0))?;
        Ok(client)
    }

    /// A new database, in which each session commits as `synchronous_commit` says, whatever client it uses.
    pub fn create(&self, name: &str, synchronous_commit: bool) -> Result<Database> {
        let mut client = self.connect("postgres")?;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        // Files are copied sooner than the WAL is written of all that is in them.
        client.batch_execute(&format!("CREATE DATABASE {name} STRATEGY file_copy"))?;
        let setting = if synchronous_commit { "on" } else { "off" };
        client.batch_execute(&format!("ALTER DATABASE {name} SET synchronous_commit = {setting}"))?;
        Ok(Database { server: self.clone(), name: name.to_owned() })
    }
}

impl Database {
    pub fn connect(&self) -> Result<Client> {
        self.server.connect(&self.name)
    }

    pub fn execute(&self, sql: &str) -> Result<()> {
        self.connect()?.batch_execute(sql).with_context(|| format!("in {}: {sql}", self.name))
    }

    /// One number.
    pub fn number(&self, sql: &str) -> Result<i64> {
        let row = self.connect()?.query_one(sql, &[]).with_context(|| format!("in {}: {sql}", self.name))?;
        Ok(row.get(0))
    }

    pub fn drop(self) -> Result<()> {
        let mut client = self.server.connect("postgres")?;
        Ok(client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name))?)
    }

    /// Tells a program of another language where the database is.
    pub fn name_to(&self, command: &mut Command) {
        command.env("PGHOST", &self.server.host).env("PGPORT", self.server.port.to_string());
        command.env("PGUSER", &self.server.user).env("PGDATABASE", &self.name);
    }
}
