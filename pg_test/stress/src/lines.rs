//! Connections whose client hangs up before it has its answer, and tries again on another.

use anyhow::{Context, Result, anyhow};
use futures_util::future::join;
use postgres::config::Host;
use std::cell::RefCell;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls};

use crate::appender::{APPEND, APPEND_BATCH};
use crate::operation::Operation;
use crate::plan::{Append, Isolation};
use crate::session::{APP, Failed, RECOVERY, Role, explain, judge};
use crate::shared::Shared;

pub const NAME: &str = "refold stress Retrier";
/// An append that still fails then does so for ever.
const TRIES: u32 = 1000;

/// Between two attempts to connect.
const PULSE: Duration = Duration::from_millis(20);

/// What one client is to append, and how it begins.
pub struct Wish {
    pub append: Append,
    /// The clients of one wish share it: the log may have one of them.
    pub tag: String,
    pub client: u32,
    pub isolation: Isolation,
    /// After this time it hangs up, the first time.
    pub patience: Option<Duration>,
    /// Whether another stream may get the event_id.
    pub may_be_taken: bool,
}

impl Wish {
    /// Without BEGIN and COMMIT around it.
    fn is_alone(&self) -> bool {
        self.isolation == Isolation::ReadCommitted
    }
}

/// What it was told at last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Appended {
        version: i64,
        position: i64,
        /// The try that was answered so.
        by: String,
    },
    Taken,
}

/// As tokio-postgres wants it: the same server and database.
fn config(shared: &Shared) -> Config {
    let mut config = Config::new();
    for host in shared.config.get_hosts() {
        match host {
            Host::Tcp(name) => config.host(name),
            Host::Unix(path) => config.host_path(path),
        };
    }
    shared.config.get_ports().iter().for_each(|&port| {
        config.port(port);
    });
    config.dbname(shared.config.get_dbname().unwrap_or_default()).user(APP);
    config.application_name(NAME).options("-c statement_timeout=60s");
    config
}

/// Connections. They are used again: a process that has never appended takes many times as long for it, gate in hand.
pub struct Lines<'a> {
    shared: &'a Shared,
    config: Config,
    idle: RefCell<Vec<Line>>,
}

impl<'a> Lines<'a> {
    pub fn new(shared: &'a Shared) -> Self {
        Self { shared, config: config(shared), idle: RefCell::default() }
    }

    /// All clients at the same time; gives what each was told.
    pub async fn fulfil(&self, wishes: &[Wish]) -> Result<Vec<Told>> {
        match wishes {
            [first, second] => {
                // Both are connected before either begins.
                let (one, two) = (self.get().await?, self.get().await?);
                let (one, two) = join(self.insist(one, first), self.insist(two, second)).await;
                Ok(vec![one?, two?])
            }
            _ => {
                let first = wishes.first().context("nobody wishes anything")?;
                Ok(vec![self.insist(self.get().await?, first).await?])
            }
        }
    }

    pub async fn close(&self) {
        let idle = self.idle.take();
        for line in idle {
            self.shared.forget(line.pid);
            line.close().await;
        }
    }

    async fn get(&self) -> Result<Line> {
        let idle = self.idle.borrow_mut().pop();
        match idle {
            Some(line) => Ok(line),
            None => Line::open(self.shared, &self.config).await,
        }
    }

    /// Tries until it is told, each time on another connection.
    async fn insist(&self, first: Line, wish: &Wish) -> Result<Told> {
        let mut line = first;
        let mut patience = wish.patience;
        for number in 0..TRIES {
            if let Some(told) = self.try_once(line, wish, number, patience.take()).await? {
                return Ok(told);
            }
            line = self.get().await?;
        }
        Err(anyhow!("not acknowledged in {TRIES} tries"))
    }

    /// What was told, or nothing if it has to be tried again.
    async fn try_once(
        &self,
        line: Line,
        wish: &Wish,
        number: u32,
        patience: Option<Duration>,
    ) -> Result<Option<Told>> {
        let by = format!("{}.{number}", wish.client);
        let result = match patience {
            None => line.ask(wish, &by).await,
            Some(patience) => match timeout(patience, line.ask(wish, &by)).await {
                Ok(result) => result,
                Err(_) => {
                    self.shared.stats.retried(|retried| retried.hung_up += 1);
                    self.shared.forget(line.pid);
                    line.hang_up().await;
                    return Ok(None);
                }
            },
        };
        let error = match result {
            Ok((version, position)) => {
                self.idle.borrow_mut().push(line);
                return Ok(Some(Told::Appended { version, position, by }));
            }
            Err(error) => error,
        };
        let taken = wish.may_be_taken && error.code().is_some_and(|code| code.code() == "23505");
        let (told, failed) = if taken {
            (Some(Told::Taken), Failed::Refused)
        } else {
            (None, judge(self.shared, line.pid, Operation::Append, error)?)
        };
        if failed == Failed::Refused && line.leave(wish).await {
            self.idle.borrow_mut().push(line);
        } else {
            self.shared.forget(line.pid);
            line.close().await;
        }
        Ok(told)
    }
}

struct Line {
    client: Client,
    driver: JoinHandle<()>,
    pid: i32,
}

impl Line {
    async fn open(shared: &Shared, config: &Config) -> Result<Self> {
        let started = Instant::now();
        loop {
            let outages = shared.outages();
            match Self::connect(config).await {
                Ok(line) => {
                    shared.register(line.pid, Role::Appender, outages);
                    return Ok(line);
                }
                Err(_) if shared.outages() > 0 && started.elapsed() < RECOVERY => sleep(PULSE).await,
                Err(error) => return Err(explain(error)).context("could not connect"),
            }
        }
    }

    async fn connect(config: &Config) -> Result<Self, tokio_postgres::Error> {
        let (client, connection) = config.connect(NoTls).await?;
        let driver = tokio::spawn(async move {
            // What ends the connection reaches whoever waits for an answer.
            let _ = connection.await;
        });
        let pid = client.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?;
        Ok(Self { client, driver, pid })
    }

    async fn ask(&self, wish: &Wish, by: &str) -> Result<(i64, i64), tokio_postgres::Error> {
        let Wish { append, tag, isolation, .. } = wish;
        if !wish.is_alone() {
            self.client.batch_execute(isolation.begin()).await?;
        }
        let metadata = format!(r#"{{"tx": "{tag}", "try": "{by}"}}"#);
        let expected: Option<i64> = None;
        let events = append.as_json(&metadata);
        let row = if let [draft] = &append.drafts[..] {
            let args: [(&(dyn ToSql + Sync), Type); 6] = [
                (&append.stream, Type::TEXT),
                (&draft.event_type, Type::TEXT),
                (&draft.data, Type::TEXT),
                (&metadata, Type::TEXT),
                (&expected, Type::INT8),
                (&append.event_id, Type::TEXT),
            ];
            self.client.query_typed_one(APPEND, &args).await?
        } else {
            let args: [(&(dyn ToSql + Sync), Type); 3] =
                [(&append.stream, Type::TEXT), (&events, Type::TEXT), (&expected, Type::INT8)];
            self.client.query_typed_one(APPEND_BATCH, &args).await?
        };
        let told = (row.try_get(0)?, row.try_get(1)?);
        if !wish.is_alone() {
            self.client.batch_execute("COMMIT").await?;
        }
        Ok(told)
    }

    /// After an error: whether it can be used again.
    async fn leave(&self, wish: &Wish) -> bool {
        wish.is_alone() || self.client.batch_execute("ROLLBACK").await.is_ok()
    }

    /// The socket is closed; what was sent goes on.
    async fn hang_up(self) {
        self.driver.abort();
        // Cancelled: that is what it was asked for.
        let _ = self.driver.await;
    }

    async fn close(self) {
        drop(self.client);
        let _ = self.driver.await;
    }
}
