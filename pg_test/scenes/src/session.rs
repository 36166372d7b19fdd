//! Sessions that one script conducts: each statement either ends or waits for another session, and which of the two is
//! seen as isolationtester sees it.

use anyhow::{Context, Result, bail};
use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a statement may neither end nor be seen to wait.
const LONGEST: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(1);

/// What the server answered.
#[derive(Debug, Clone)]
pub enum Reply {
    /// The rows, their columns in text.
    Rows(Vec<Vec<String>>),
    Error {
        sqlstate: String,
        message: String,
    },
}

impl Reply {
    /// Of a statement that failed.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Rows(_) => None,
            Self::Error { sqlstate, .. } => Some(sqlstate),
        }
    }

    /// It succeeded, without any row.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Rows(rows) if rows.is_empty())
    }

    pub fn rows(&self) -> &[Vec<String>] {
        match self {
            Self::Rows(rows) => rows,
            Self::Error { .. } => &[],
        }
    }

    pub fn told(&self) -> String {
        match self {
            Self::Rows(rows) => {
                let rows: Vec<_> = rows.iter().map(|row| row.join(", ")).collect();
                if rows.is_empty() { "ok".to_owned() } else { format!("ok: {}", rows.join(" / ")) }
            }
            Self::Error { sqlstate, message } => format!("{sqlstate}: {message}"),
        }
    }
}

/// What a statement does within the next moment.
#[derive(Debug)]
pub enum Progress {
    Ends(Reply),
    /// For another of the sessions.
    Waits,
}

struct Session {
    name: &'static str,
    pid: i32,
    statements: Sender<String>,
    replies: Receiver<Result<Reply, postgres::Error>>,
}

impl Session {
    fn connect(config: &Config, name: &'static str) -> Result<Self> {
        let mut client = config.clone().application_name(name).connect(NoTls)?;
        let pid = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
        let (statements, todo) = channel::<String>();
        let (done, replies) = channel();
        thread::spawn(move || {
            for statement in todo {
                if done.send(run(&mut client, &statement)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { name, pid, statements, replies })
    }
}

fn run(client: &mut Client, statement: &str) -> Result<Reply, postgres::Error> {
    let messages = match client.simple_query(statement) {
        Ok(messages) => messages,
        Err(error) => {
            let Some(told) = error.as_db_error() else { return Err(error) };
            let (sqlstate, message) = (told.code().code().to_owned(), told.message().to_owned());
            // The server tells of an error before it has undone the statement and released its locks.
            client.simple_query("")?;
            return Ok(Reply::Error { sqlstate, message });
        }
    };
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|column| row.get(column).unwrap_or("NULL").to_owned()).collect())
        }
        _ => None,
    });
    Ok(Reply::Rows(rows.collect()))
}

/// The sessions, one that looks at them, and what was seen since the last scene began.
pub struct Stage {
    sessions: Vec<Session>,
    pids: Vec<i32>,
    /// The onlooker.
    monitor: Client,
    transcript: String,
}

impl Stage {
    /// A session for each name, with its own connection for good: caches stay warm from scene to scene.
    pub fn connect(config: &Config, names: &[&'static str]) -> Result<Self> {
        let sessions: Vec<_> =
            names.iter().map(|name| Session::connect(config, name)).collect::<Result<_>>()?;
        let pids = sessions.iter().map(|session| session.pid).collect();
        let monitor = config.connect(NoTls)?;
        Ok(Self { sessions, pids, monitor, transcript: String::new() })
    }

    /// Runs `setup` as the onlooker, and forgets what was seen.
    pub fn set(&mut self, setup: &str) -> Result<()> {
        self.transcript.clear();
        self.monitor.batch_execute(setup).context("cannot set the scene")
    }

    /// Sends a statement and says what it does.
    pub fn start(&mut self, session: usize, statement: &str) -> Result<Progress> {
        let Session { name, statements, .. } = &self.sessions[session];
        self.transcript.push_str(&format!("{name}: {statement}\n"));
        statements.send(statement.to_owned()).context("a session has ended")?;
        let started = Instant::now();
        loop {
            if let Some(reply) = self.reply_within(session, POLL)? {
                self.transcript.push_str(&format!("    {}\n", reply.told()));
                return Ok(Progress::Ends(reply));
            }
            if self.is_blocked(session)? {
                self.transcript.push_str("    waits\n");
                return Ok(Progress::Waits);
            }
            if started.elapsed() > LONGEST {
                bail!("it neither ends nor waits");
            }
        }
    }

    /// The reply of a statement that waited and must not wait any more.
    pub fn finish(&mut self, session: usize) -> Result<Reply> {
        let name = self.sessions[session].name;
        let Some(reply) = self.reply_within(session, LONGEST)? else {
            bail!("{name} is stuck");
        };
        self.transcript.push_str(&format!("{name}: ... {}\n", reply.told()));
        Ok(reply)
    }

    /// Whether a statement that waited does so again, now that something has changed.
    pub fn goes_on_waiting(&mut self, session: usize) -> Result<bool> {
        let started = Instant::now();
        while !self.is_blocked(session)? {
            // Its reply stays for `finish`.
            if started.elapsed() > LONGEST || !self.is_running(session)? {
                return Ok(false);
            }
            thread::sleep(POLL);
        }
        Ok(true)
    }

    /// A statement that must not wait.
    pub fn run(&mut self, session: usize, statement: &str) -> Result<Reply> {
        match self.start(session, statement)? {
            Progress::Ends(reply) => Ok(reply),
            Progress::Waits => bail!("it waits"),
        }
    }

    /// Rows that the onlooker sees.
    pub fn look(&mut self, query: &str) -> Result<Reply> {
        Ok(run(&mut self.monitor, query)?)
    }

    /// Whether a query gets to find nothing.
    pub fn becomes_empty(&mut self, query: &str) -> Result<bool> {
        let started = Instant::now();
        while !self.look(query)?.is_empty() {
            if started.elapsed() > LONGEST {
                return Ok(false);
            }
            thread::sleep(POLL);
        }
        Ok(true)
    }

    /// What was done so far and what came of it, for whoever has to understand a failure.
    pub fn transcript(&self) -> &str {
        &self.transcript
    }

    fn reply_within(&self, session: usize, time: Duration) -> Result<Option<Reply>> {
        match self.sessions[session].replies.recv_timeout(time) {
            Ok(reply) => Ok(Some(reply?)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("a session has ended"),
        }
    }

    fn is_running(&mut self, session: usize) -> Result<bool> {
        const SQL: &str = "SELECT state = 'active' FROM pg_stat_activity WHERE pid = $1";
        Ok(self.monitor.query_one(SQL, &[&self.sessions[session].pid])?.get(0))
    }

    /// Whether it waits for another of the sessions, or the worker does for which a CALL waits.
    fn is_blocked(&mut self, session: usize) -> Result<bool> {
        const SQL: &str = "SELECT coalesce(bool_or(pg_isolation_test_session_is_blocked(a.pid, $2)), false) \
              OR coalesce(bool_or(s.query LIKE 'CALL %'), false) AND EXISTS (SELECT FROM refold.rebuild_progress AS r \
                WHERE r.waits_for && $2) \
            FROM pg_stat_activity AS s JOIN pg_stat_activity AS a \
              ON a.pid = s.pid OR (a.datname = s.datname AND a.backend_type LIKE 'refold%' AND s.query LIKE 'CALL %') \
            WHERE s.pid = $1";
        let pid = self.sessions[session].pid;
        let others: Vec<_> = self.pids.iter().copied().filter(|&other| other != pid).collect();
        Ok(self.monitor.query_one(SQL, &[&pid, &others])?.get(0))
    }
}

impl Drop for Stage {
    /// A session that is stuck would keep its thread, and its locks until it is gone.
    fn drop(&mut self) {
        self.monitor
            .execute("SELECT pg_terminate_backend(pid, 10000) FROM unnest($1::int[]) AS pid", &[&self.pids])
            .ok();
    }
}
