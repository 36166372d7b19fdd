//! One crash: somebody is parked somewhere and killed, the server comes back, and all must be as it was.

use anyhow::{Context, Result, anyhow, bail, ensure};
use postgres::Client;
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use super::checks;
use super::ledger::Fate;
use super::victim::Victim;
use super::world::{World, append_sql, explain};

/// How long anybody may take to get somewhere.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);
/// Processes before a closed door. 1: a key of one bigint; refold's own have other numbers there.
const AT_DOOR: &str = "SELECT l.pid FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
    WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.objsubid = 1 AND NOT l.granted";

/// Where the victim is when it is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Waitpoint(String),
    /// Its command has returned, its transaction has not committed.
    BeforeCommit,
    /// Its commit record is on disk, and nobody has been told: there it waits for a standby that does not exist.
    AfterCommitRecord,
}

impl Place {
    pub fn name(&self) -> &str {
        match self {
            Self::Waitpoint(name) => name,
            Self::BeforeCommit => "before the commit",
            Self::AfterCommitRecord => "after the commit record",
        }
    }
}

/// Who is killed, by SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    /// The process that waits at the place; PostgreSQL then starts all others anew.
    Backend,
    /// The postmaster; it is started again at once, while the backends still end.
    Postmaster,
    /// Nobody: the session is ended in order, and all others go on.
    Session,
}

/// The ways in which the server crashes.
pub const CRASHES: [Kill; 2] = [Kill::Backend, Kill::Postmaster];
pub const KILLS: [Kill; 3] = [Kill::Backend, Kill::Postmaster, Kill::Session];

impl Kill {
    pub fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend killed",
            Self::Postmaster => "postmaster killed",
            Self::Session => "session ended",
        }
    }

    /// Kills, and returns when the server lets clients in again; `witness` is another one's client.
    pub fn strike(self, world: &World, backend: i32, mut witness: Client) -> Result<()> {
        match self {
            Self::Backend => {
                ensure!(world.server.kill_backend(backend)?, "process {backend} is not the server's");
                world.server.wait_until_recovered()
            }
            Self::Postmaster => {
                world.server.kill_postmaster()?;
                world.server.restart()
            }
            Self::Session => {
                let there = "SELECT 1 FROM pg_stat_activity WHERE pid = $1";
                witness.query_one("SELECT pg_terminate_backend($1)", &[&backend]).map_err(explain)?;
                wait_for(|| {
                    Ok(witness.query_opt(there, &[&backend]).map_err(explain)?.is_none().then_some(()))
                })?;
                // The witness's own process ends a while after its client; what it keeps shut must not be found then.
                witness.batch_execute("SELECT pg_advisory_unlock_all()").map_err(explain)
            }
        }
    }
}

pub struct Case {
    pub place: Place,
    pub victim: &'static Victim,
    pub kill: Kill,
}

impl Case {
    pub fn name(&self) -> String {
        format!("{}, {} at \"{}\"", self.kill.name(), self.victim.name, self.place.name())
    }

    pub fn run(&self, world: &mut World) -> Result<()> {
        let mut client = world.connect_passing()?;
        client.batch_execute(self.victim.prepare).map_err(explain)?;
        let before = world.registry(&mut client)?;

        let mut doorman = client;
        // Held by the session, until it is killed.
        close_door(&mut doorman, self.place.name())?;
        let tag = world.ledger.new_tag();
        let act = Running::start(self.victim_client(world)?, self.script(&tag));
        let victim = self.wait_until_parked(&mut doorman, &act)?;
        let committed = self.place == Place::AfterCommitRecord;
        let events = i64::try_from(self.victim.events())?;
        world.ledger.enter(&tag, events, if committed { Fate::Kept } else { Fate::Lost });
        let bystander = Bystander::start(world, &mut doorman)?;
        self.kill.strike(world, victim, doorman)?;
        // The caller of a job has its answer while the worker still tidies up.
        ensure!(act.join()?.is_err() || self.victim.is_job(), "the victim has got an answer");
        bystander.finish(world)?;

        if self.victim.is_job() {
            if !self.victim.in_place {
                checks::check(world)?;
            }
            self.resume(world)?;
        }
        let mut client = world.connect_passing()?;
        let after = world.registry(&mut client)?;
        let should_differ = self.victim.changes_registry() && (committed || self.victim.is_job());
        ensure!((after != before) == should_differ, "the registry was {before:?} and is {after:?}");
        client.close().map_err(explain)?;
        checks::check(world)?;
        self.finish(world, &tag)
    }

    /// A job is still there, and goes on when it is told to.
    fn resume(&self, world: &World) -> Result<()> {
        let mut client = world.connect_passing()?;
        client.batch_execute(self.victim.resume).map_err(explain).context("resuming the job")?;
        wait_for_job(&mut client).context("waiting for the resumed job")
    }

    fn victim_client(&self, world: &World) -> Result<Client> {
        let mut client = world.connect()?;
        if self.place == Place::AfterCommitRecord {
            client.batch_execute("SET synchronous_commit = on").map_err(explain)?;
        }
        Ok(client)
    }

    /// What the victim does: its act, and, where it is to be killed before the commit, a wait in its transaction.
    fn script(&self, tag: &str) -> String {
        let act = self.victim.act(tag);
        match &self.place {
            Place::BeforeCommit => {
                format!("BEGIN; {act}; SELECT pg_advisory_lock_shared({}); COMMIT", key(self.place.name()))
            }
            _ => act,
        }
    }

    /// The process that stands before the closed door.
    fn wait_until_parked(&self, doorman: &mut Client, act: &Running) -> Result<i32> {
        let sql = match self.place {
            Place::AfterCommitRecord => {
                "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()"
            }
            _ => AT_DOOR,
        };
        wait_for(|| {
            if let Some(row) = doorman.query_opt(sql, &[]).map_err(explain)? {
                return Ok(Some(row.try_get(0)?));
            }
            let may_come = !act.has_ended() || self.victim.is_job();
            ensure!(may_come, "{} has ended without coming there", self.victim.name);
            Ok(None)
        })
        .with_context(|| format!("waiting for {} at \"{}\"", self.victim.name, self.place.name()))
    }

    /// What the victim wanted can be had now, and taken back; and then every projection is rebuilt. An append is
    /// repeated even if it was committed: its event ids keep it from being appended twice.
    fn finish(&self, world: &mut World, tag: &str) -> Result<()> {
        let mut client = world.connect_passing()?;
        let done = self.place == Place::AfterCommitRecord || self.victim.is_job();
        if !done || self.victim.events() > 0 {
            client.batch_execute(&self.victim.act(tag)).map_err(explain).context("the second try")?;
            world.ledger.keep(tag);
        }
        client.batch_execute(self.victim.undo).map_err(explain).context("taking back the act")?;
        wait_for_workers(&mut client)?;
        world.append(&mut client, "afterwards", 2)?;
        client.close().map_err(explain)?;
        checks::rebuild_all(world)?;
        checks::check(world)
    }
}

/// Another session's append, so that there is something to lose. It may wait only for a cut-over.
struct Bystander {
    tag: String,
    append: Running,
}

impl Bystander {
    fn start(world: &World, doorman: &mut Client) -> Result<Self> {
        let mut client = world.connect_passing()?;
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).map_err(explain)?.try_get(0)?;
        let tag = world.ledger.new_tag();
        let append = Running::start(client, append_sql("bystander", &tag, 2));
        // The gate, or a model's table.
        let waits = "SELECT EXISTS (SELECT FROM pg_locks AS h WHERE h.relation = w.relation AND h.granted
                        AND h.mode IN ('ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))
                       FROM pg_locks AS w WHERE w.pid = $1 AND NOT w.granted";
        let waits_for_rebuild = wait_for(|| {
            if append.has_ended() {
                return Ok(Some(None));
            }
            Ok(doorman.query_opt(waits, &[&pid]).map_err(explain)?.map(Some))
        })?;
        if let Some(row) = waits_for_rebuild {
            let for_rebuild: bool = row.try_get(0)?;
            ensure!(for_rebuild, "an append to another stream waits, and not for a cut-over");
        }
        Ok(Self { tag, append })
    }

    /// Once the crash is over.
    fn finish(self, world: &mut World) -> Result<()> {
        let acknowledged = self.append.join()?.is_ok();
        let fate = if acknowledged { Fate::Kept } else { Fate::Unknown };
        world.ledger.enter(&self.tag, 2, fate);
        Ok(())
    }
}

/// Statements on their way in a session of their own.
pub struct Running(JoinHandle<Result<()>>);

impl Running {
    pub fn start(mut client: Client, sql: String) -> Self {
        Self(thread::spawn(move || client.batch_execute(&sql).map_err(explain)))
    }

    fn has_ended(&self) -> bool {
        self.0.is_finished()
    }

    pub fn join(self) -> Result<Result<()>> {
        self.0.join().map_err(|_| anyhow!("a session's thread has panicked"))
    }
}

/// The key of the lock that keeps whoever comes to the place.
fn key(place: &str) -> String {
    format!("hashtextextended('{place}', 0)")
}

/// From now on nobody passes the place, until the session ends or the door is opened.
pub fn close_door(doorman: &mut Client, place: &str) -> Result<()> {
    doorman.batch_execute(&format!("SELECT pg_advisory_lock({})", key(place))).map_err(explain)
}

pub fn open_door(doorman: &mut Client, place: &str) -> Result<()> {
    doorman.batch_execute(&format!("SELECT pg_advisory_unlock({})", key(place))).map_err(explain)
}

/// The process that stands before a closed door.
pub fn wait_at_door(doorman: &mut Client) -> Result<i32> {
    wait_for(|| Ok(at_doors(doorman)?.first().copied()))
}

/// All that stand there now.
pub fn at_doors(client: &mut Client) -> Result<Vec<i32>> {
    let rows = client.query(AT_DOOR, &[]).map_err(explain)?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Until no job is open; fails if one is paused, which is asked first.
pub fn wait_for_job(client: &mut Client) -> Result<()> {
    let open = "SELECT state, concat(error_sqlstate, ' ', error_message) FROM refold.rebuild_job
                 WHERE state IN ('running', 'paused') ORDER BY state LIMIT 1";
    wait_for(|| {
        let Some(row) = client.query_opt(open, &[]).map_err(explain)? else { return Ok(Some(())) };
        let (state, error): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        ensure!(state == "running", "the job is {state}: {error}");
        Ok(None)
    })
}

/// Until the workers have noticed that their jobs have ended.
fn wait_for_workers(client: &mut Client) -> Result<()> {
    let workers =
        "SELECT FROM pg_stat_activity WHERE backend_type = 'refold rebuild' AND datname = current_database()";
    wait_for(|| Ok(client.query(workers, &[]).map_err(explain)?.is_empty().then_some(())))
        .context("waiting for workers whose jobs have ended")
}

/// Asks until there is an answer.
pub fn wait_for<T>(mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        sleep(PAUSE);
    }
    bail!("it has not come in {} s", PATIENCE.as_secs())
}
