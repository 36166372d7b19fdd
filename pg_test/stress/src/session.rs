//! A client's connection: registered so that it can be cancelled and ended, and opened again when it was.

use anyhow::{Context, Result, anyhow, bail};
use postgres::error::Severity;
use postgres::{Client, Config, NoTls};
use std::thread;
use std::time::{Duration, Instant};

use crate::operation::Operation;
use crate::shared::Shared;

/// Who a client is; decides what may be done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Appender,
    Rebuilder,
    /// Waits for jobs.
    Operator,
    Deployer,
    Reader,
    Poller,
    /// Never cancelled, never ended.
    Protected,
}

/// What stopped a client: the server, or a check that failed.
#[derive(Debug)]
pub enum Fault {
    Sql(postgres::Error),
    Broken(anyhow::Error),
}

impl From<postgres::Error> for Fault {
    fn from(error: postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

/// What became of an operation that ended in an allowed error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The server answered: what was not committed is rolled back.
    Refused,
    /// The connection is gone, and with it the answer.
    Lost,
}

pub struct Session<'a> {
    pub client: Client,
    pub pid: i32,
    role: Role,
    config: Config,
    shared: &'a Shared,
}

/// The database roles of `sql/roles.sql`.
pub const OWNER: &str = "stress_owner";
pub const APP: &str = "stress_app";

impl<'a> Session<'a> {
    /// As the superuser if `user` is `None`.
    pub fn open(shared: &'a Shared, role: Role, user: Option<&str>) -> Result<Self> {
        let mut config = shared.config.clone();
        config.application_name(&format!("refold stress {role:?}")).options("-c statement_timeout=60s");
        if let Some(user) = user {
            config.user(user);
        }
        let (client, pid) = connect(shared, &config, role)?;
        Ok(Self { client, pid, role, config, shared })
    }

    /// Leaves an aborted transaction, or a connection that is gone.
    fn recover(&mut self, failed: Failed) -> Result<()> {
        if failed == Failed::Refused {
            match self.client.batch_execute("ROLLBACK") {
                Ok(()) => return Ok(()),
                Err(error) => {
                    judge(self.shared, self.pid, Operation::Commit, error)?;
                }
            }
        }
        self.shared.forget(self.pid);
        (self.client, self.pid) = connect(self.shared, &self.config, self.role)?;
        Ok(())
    }

    /// What may be asked again: until no crash takes the answer. No other error is allowed.
    pub fn insist<R>(&mut self, mut ask: impl FnMut(&mut Client) -> Result<R, postgres::Error>) -> Result<R> {
        loop {
            match ask(&mut self.client) {
                Ok(answer) => return Ok(answer),
                Err(error) => self.overcome(Operation::Watch, Fault::Sql(error))?,
            };
        }
    }

    /// After a fault in `operation`: ready for the next if the fault is allowed.
    pub fn overcome(&mut self, operation: Operation, fault: Fault) -> Result<Failed> {
        match fault {
            Fault::Broken(error) => Err(error),
            Fault::Sql(error) => {
                let failed = judge(self.shared, self.pid, operation, error)?;
                self.recover(failed)?;
                Ok(failed)
            }
        }
    }

    /// Inside a transaction, behind a savepoint: the statement must have failed with `sqlstate`.
    pub fn require_refusal(&mut self, error: postgres::Error, sqlstate: &str) -> Result<(), Fault> {
        if error.code().is_some_and(|code| code.code() == sqlstate) { Ok(()) } else { Err(Fault::Sql(error)) }
    }
}

/// Counts an error that `operation` of the process `pid` may end in; fails on any other.
pub fn judge(shared: &Shared, pid: i32, operation: Operation, error: postgres::Error) -> Result<Failed> {
    let Some(server) = error.as_db_error() else {
        if shared.was_ended(pid) {
            shared.stats.count_error(operation, "connection lost");
            return Ok(Failed::Lost);
        }
        return Err(explain(error)).with_context(|| {
            format!("{operation}: the connection of process {pid} was lost, though nobody ended it")
        });
    };
    let code = server.code().code().to_owned();
    let fatal = matches!(server.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
    if !operation.allows(&code) || (fatal && !shared.was_ended(pid)) {
        return Err(explain(error)).with_context(|| format!("{operation} failed in process {pid}"));
    }
    shared.stats.count_error(operation, &code);
    Ok(if fatal { Failed::Lost } else { Failed::Refused })
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.shared.forget(self.pid);
    }
}

/// A crash may be in the way: then it takes a moment.
pub const RECOVERY: Duration = Duration::from_secs(60);

fn connect(shared: &Shared, config: &Config, role: Role) -> Result<(Client, i32)> {
    let started = Instant::now();
    loop {
        let outages = shared.outages();
        let connected = config.connect(NoTls).and_then(|mut client| {
            let pid = client.query_one("SELECT pg_backend_pid()", &[])?.try_get(0)?;
            Ok((client, pid))
        });
        match connected {
            Ok((client, pid)) => {
                shared.register(pid, role, outages);
                return Ok((client, pid));
            }
            Err(_) if shared.outages() > 0 && started.elapsed() < RECOVERY => {
                thread::sleep(Duration::from_millis(20))
            }
            Err(error) => return Err(explain(error)).context("could not connect"),
        }
    }
}

/// The error as psql would show it at verbose: `postgres::Error` alone prints "db error".
pub fn explain(error: postgres::Error) -> anyhow::Error {
    let Some(server) = error.as_db_error() else { return error.into() };
    let mut text = format!("{}: {} (SQLSTATE {})", server.severity(), server.message(), server.code().code());
    let parts = [("DETAIL", server.detail()), ("HINT", server.hint()), ("CONTEXT", server.where_())];
    for (label, part) in parts {
        if let Some(part) = part {
            text.push_str(&format!("\n{label}: {part}"));
        }
    }
    anyhow!(text)
}

/// Where no error is allowed.
pub fn certain<T>(result: Result<T, Fault>) -> Result<T> {
    match result {
        Ok(value) => Ok(value),
        Err(Fault::Sql(error)) => Err(explain(error)),
        Err(Fault::Broken(error)) => bail!(error),
    }
}
