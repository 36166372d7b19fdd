//! A private throw-away server with the extension installed: its own installation, cluster and socket, all in one
//! folder that is gone when the server is dropped, interrupted, or, if even that failed, when the next one starts.

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postgres::{Client, Config, NoTls};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::install::Extension;
use crate::interrupt::{self, CleanUp};
use crate::logs;
use crate::small_disk::SmallDisk;
use crate::stage::Stage;
use crate::toolchain::Postgres;
use crate::unpacked;
use crate::workdir::{DATA, Workdir};

const SUPERUSER: &str = "postgres";
/// Lines of a log that an error tells: the last, and the last that say why a server ends.
const TOLD: usize = 60;
const REASONS: usize = 3;
/// What clients are told who come too early.
const DOOR_SHUT: [&str; 4] = ["not yet accepting", "in recovery mode", "is starting up", "is shutting down"];
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// What PostgreSQL says when it does not start because of processes of the last postmaster.
const REFUSAL: &str = "is still in use";
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What every server of ours is set to; `ServerOptions::settings` come later and win.
const SETTINGS: [(&str, &str); 13] = [
    ("listen_addresses", "''"),
    ("fsync", "off"),
    ("max_connections", "100"),
    ("max_prepared_transactions", "20"),
    ("max_worker_processes", "24"),
    ("shared_buffers", "'256MB'"),
    ("max_wal_size", "'4GB'"),
    ("timezone", "'UTC'"),
    ("log_timezone", "'UTC'"),
    ("log_min_messages", "warning"),
    ("log_checkpoints", "off"),
    ("log_line_prefix", "'%m [%p] %d %a '"),
    ("lc_messages", "'C'"),
];

#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Further lines of postgresql.conf: name and value, quoted where the value needs it.
    pub settings: Vec<(String, String)>,
    /// Stops the server at the end, but leaves its folder, and says where that is.
    pub keep_on_drop: bool,
    /// A file system that only this server sees, and that is gone with it.
    pub small_disk: Option<SmallDisk>,
    /// Also lets clients in by TCP, on this machine, with a password (which the superuser does not have).
    pub has_tcp: bool,
}

impl ServerOptions {
    /// These further settings, and nothing else.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { settings, ..Self::default() }
    }
}

/// A running server. Dropping it stops it and removes all it has.
pub struct Server {
    instance: Arc<Instance>,
    stage: Stage,
    account: Account,
    small_disk: Option<SmallDisk>,
    socket_dir: PathBuf,
    port: u16,
    psql: PathBuf,
    /// Where PL/Python's own Python is, if that is not the system's.
    python_home: Option<PathBuf>,
}

struct Instance {
    workdir: Workdir,
    postmaster: Mutex<Option<Child>>,
    gone: AtomicBool,
    keep: bool,
}

impl Server {
    pub fn start(pg: &Postgres, extension: &Extension, options: &ServerOptions) -> Result<Server> {
        Self::start_on(pg, extension, options, Server::initdb)
    }

    /// A hot standby that follows `primary`.
    pub fn start_standby(
        pg: &Postgres,
        extension: &Extension,
        options: &ServerOptions,
        primary: &Server,
    ) -> Result<Server> {
        Self::start_on(pg, extension, options, |server| primary.base_backup(pg, server.data_dir()))
    }

    /// With the cluster that the command makes in the data folder.
    pub fn start_on(
        pg: &Postgres,
        extension: &Extension,
        options: &ServerOptions,
        make_cluster: impl FnOnce(&Server) -> Command,
    ) -> Result<Server> {
        let account = Account::unprivileged()?;
        let workdir = Workdir::create()?;
        let instance = Arc::new(Instance {
            workdir,
            postmaster: Mutex::new(None),
            gone: AtomicBool::new(false),
            keep: options.keep_on_drop,
        });
        let weak: Weak<Instance> = Arc::downgrade(&instance);
        interrupt::register(weak)?;
        let stage = Stage::create(&instance.workdir.path().join("stage"), pg, extension)?;
        let server = Server {
            stage,
            account,
            small_disk: options.small_disk,
            socket_dir: instance.workdir.path().join("socket"),
            port: if options.has_tcp { free_port()? } else { port_of_socket()? },
            psql: pg.program("psql"),
            python_home: unpacked::prefix_of(&pg.bindir),
            instance,
        };
        server.initialise(options, make_cluster(&server)).context("cannot make a cluster")?;
        server.launch()?;
        server.wait_until_recovered()?;
        Ok(server)
    }

    /// Kills the postmaster, and nobody else: its backends notice and end, each in its time.
    pub fn kill_postmaster(&self) -> Result<()> {
        let mut postmaster = self.instance.postmaster.lock().unwrap_or_else(PoisonError::into_inner);
        let mut postmaster = postmaster.take().context("there is no postmaster")?;
        postmaster.kill()?;
        postmaster.wait()?;
        Ok(())
    }

    /// Kills a process of this server, if it is one, and waits until the postmaster has taken it away, which then lets nobody
    /// in before it has started all others anew; says whether it was one.
    pub fn kill_backend(&self, pid: i32) -> Result<bool> {
        let killed = self.has_backend(pid) && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
        let started = Instant::now();
        while killed && self.has_backend(pid) {
            ensure!(
                started.elapsed() < START_TIMEOUT,
                "process {pid} was killed, and the postmaster does not notice"
            );
            sleep(Duration::from_millis(5));
        }
        Ok(killed)
    }

    /// Whether it is a process of this server, if only a dead one that the postmaster has not taken away yet.
    fn has_backend(&self, pid: i32) -> bool {
        let postmaster = self.instance.postmaster.lock().unwrap_or_else(PoisonError::into_inner);
        let parent = postmaster.as_ref().map(|postmaster| format!("PPid:\t{}", postmaster.id()));
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        parent.is_some_and(|parent| status.lines().any(|line| line == parent))
    }

    /// Starts the server again after [`Server::kill_postmaster`], at once: as long as a backend of the last postmaster
    /// is left, PostgreSQL refuses to start, and is asked again. That it tries to, and fails, is an error.
    pub fn restart(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let logged = fs::metadata(self.log_file())?.len();
            self.launch()?;
            let Err(error) = self.wait_until_ready() else { return Ok(()) };
            let is_refused = self.log_after(logged)?.contains(REFUSAL);
            if !is_refused || started.elapsed() > START_TIMEOUT {
                return Err(self.with_log(error));
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// As [`Server::wait_until_ready`]; an error says what the log does. After a backend was killed: until PostgreSQL has
    /// started all others anew.
    pub fn wait_until_recovered(&self) -> Result<()> {
        self.wait_until_ready().map_err(|error| self.with_log(error))
    }

    /// Stops the server in order, so that its folder has all; [`Server::restart`] starts it again.
    pub fn stop(&self) -> Result<()> {
        let mut postmaster = self.instance.postmaster.lock().unwrap_or_else(PoisonError::into_inner);
        let mut postmaster = postmaster.take().context("there is no postmaster")?;
        kill(Pid::from_raw(i32::try_from(postmaster.id())?), Signal::SIGINT)?;
        let status = postmaster.wait()?;
        ensure!(status.success(), "postgres ended: {status}");
        Ok(())
    }

    /// A folder beside the cluster's that the server may write to.
    pub fn make_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path().join(name);
        fs::create_dir(&folder)?;
        self.account.own(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        Ok(folder)
    }

    /// The command as the server's own account runs it, in the server's folder.
    pub fn as_account(&self, command: Command) -> Command {
        let mut command = self.command(command);
        self.account.apply(&mut command);
        command
    }

    /// A program of the staged installation.
    pub fn program(&self, name: &str) -> PathBuf {
        self.stage.program(name)
    }

    /// Adds programs to the staged installation, which find it as the server does.
    pub fn stage_programs(&self, pg: &Postgres, names: &[&str]) -> Result<()> {
        self.stage.add_programs(pg, names)
    }

    /// What the log has after its first so many bytes.
    fn log_after(&self, bytes: u64) -> Result<String> {
        let mut log = File::open(self.log_file())?;
        log.seek(SeekFrom::Start(bytes))?;
        let mut text = Vec::new();
        log.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn with_log(&self, error: anyhow::Error) -> anyhow::Error {
        let log = self.log_after(0).unwrap_or_default();
        let last_of = |lines: Vec<&str>, most: usize| lines[lines.len().saturating_sub(most)..].join("\n");
        let fatal =
            |line: &&str| line.contains("FATAL:") && DOOR_SHUT.iter().all(|text| !line.contains(text));
        let reasons = last_of(log.lines().filter(fatal).collect(), REASONS);
        let end = last_of(log.lines().collect(), TOLD);
        anyhow!("{error:#}\n{reasons}")
            .context(format!("the server does not start; the end of its log:\n{end}"))
    }

    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where clients come in by TCP, if they may.
    pub fn address(&self) -> String {
        format!("{LOOPBACK}:{}", self.port)
    }

    /// The name of the superuser.
    pub fn user(&self) -> &str {
        SUPERUSER
    }

    /// The cluster's folder.
    pub fn data_dir(&self) -> PathBuf {
        self.path().join(DATA)
    }

    pub fn log_file(&self) -> PathBuf {
        self.path().join("server.log")
    }

    /// A place for what tests write; kept with the logs.
    pub fn results_dir(&self) -> PathBuf {
        self.path().join("results")
    }

    /// How to connect to `database` as the superuser.
    pub fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.socket_dir).port(self.port).user(SUPERUSER).dbname(database);
        config.application_name("xtask").connect_timeout(Duration::from_secs(10));
        config
    }

    pub fn create_database(&self, name: &str) -> Result<()> {
        let mut client = self.connect("postgres")?;
        let quoted = name.replace('"', "\"\"");
        client
            .batch_execute(&format!("CREATE DATABASE \"{quoted}\""))
            .with_context(|| format!("cannot create the database {name}"))
    }

    /// Ends whoever is still connected to it.
    pub fn drop_database(&self, name: &str) -> Result<()> {
        let mut client = self.connect("postgres")?;
        let quoted = name.replace('"', "\"\"");
        client
            .batch_execute(&format!("DROP DATABASE \"{quoted}\" WITH (FORCE)"))
            .with_context(|| format!("cannot drop the database {name}"))
    }

    /// psql on `database` as the superuser, deaf to the user's settings.
    pub fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(&self.psql);
        without_pg_environment(&mut psql).arg("--no-psqlrc").arg("--host").arg(&self.socket_dir);
        psql.args(["--port", &self.port.to_string(), "--username", SUPERUSER, "--dbname", database]);
        psql
    }

    /// Copies the server's log and the results to a folder under `target/`, and returns that.
    pub fn preserve_logs(&mut self) -> Result<PathBuf> {
        logs::preserve(&[self.log_file(), self.results_dir()])
    }

    fn path(&self) -> &Path {
        self.instance.workdir.path()
    }

    fn connect(&self, database: &str) -> Result<Client, postgres::Error> {
        self.config(database).connect(NoTls)
    }

    /// The command that makes an empty cluster.
    pub fn initdb(&self) -> Command {
        let mut initdb = Command::new(self.stage.program("initdb"));
        initdb.args([
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--no-sync",
            "--locale=C.UTF-8",
            "--encoding=UTF8",
        ]);
        initdb.args(["--username", SUPERUSER, "--pgdata"]).arg(self.data_dir());
        initdb
    }

    fn base_backup(&self, pg: &Postgres, to: PathBuf) -> Command {
        let mut backup = Command::new(pg.program("pg_basebackup"));
        backup.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--host"]);
        backup.arg(&self.socket_dir).args(["--port", &self.port.to_string(), "--username", SUPERUSER]);
        backup.arg("--pgdata").arg(to);
        backup
    }

    fn initialise(&self, options: &ServerOptions, make_cluster: Command) -> Result<()> {
        let data = self.data_dir();
        fs::create_dir(self.results_dir())?;
        for folder in [&data, &self.socket_dir] {
            fs::create_dir(folder)?;
            self.account.own(folder)?;
        }
        fs::set_permissions(&data, Permissions::from_mode(0o700))?;
        let mut make_cluster = self.command(make_cluster);
        let output = self.account.apply(&mut make_cluster).output().context("cannot run its program")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let mut lines = String::new();
        for (name, value) in SETTINGS {
            writeln!(lines, "{name} = {value}")?;
        }
        writeln!(lines, "unix_socket_directories = '{}'\nport = {}", self.socket_dir.display(), self.port)?;
        if options.has_tcp {
            writeln!(lines, "listen_addresses = '{LOOPBACK}'")?;
        }
        for (name, value) in &options.settings {
            writeln!(lines, "{name} = {value}")?;
        }
        let mut configuration = OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
        Ok(configuration.write_all(lines.as_bytes())?)
    }

    fn launch(&self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let program = self.stage.program("postgres");
        let mut postgres = match self.small_disk {
            None => {
                let mut postgres = self.command(Command::new(program));
                self.account.apply(&mut postgres);
                postgres
            }
            Some(disk) => self.command(disk.mounted_for(&self.small_disk_dir(), self.account, &program)?),
        };
        postgres.arg("-D").arg(self.data_dir());
        postgres.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut postmaster = self.instance.postmaster.lock().unwrap_or_else(PoisonError::into_inner);
        if self.instance.gone.load(Ordering::SeqCst) {
            bail!("interrupted");
        }
        *postmaster = Some(postgres.spawn().context("cannot run postgres")?);
        Ok(())
    }

    /// Waits until the server lets clients in; fails if it has ended instead.
    fn wait_until_ready(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let refusal = match self.connect("postgres") {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let mut postmaster = self.instance.postmaster.lock().unwrap_or_else(PoisonError::into_inner);
            let postmaster = postmaster.as_mut().ok_or_else(|| anyhow!("interrupted"))?;
            if let Some(status) = postmaster.try_wait()? {
                bail!("postgres ended: {status}");
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(refusal).context("postgres does not let us in");
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Where the small disk is, for the server's processes.
    pub fn small_disk_dir(&self) -> PathBuf {
        self.path().join("small")
    }

    /// A program of the server's, in a process group that the terminal's Ctrl-C does not reach: stopping the server in
    /// order is up to us.
    fn command(&self, mut command: Command) -> Command {
        without_pg_environment(&mut command).current_dir(self.path()).process_group(0);
        // A backtrace would end up in the DETAIL of errors, where tests would see it.
        command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        command.env("HOME", self.path()).env("TZ", "UTC");
        if let Some(prefix) = &self.python_home {
            command.env("PYTHONHOME", prefix);
        }
        command
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.clean_up();
    }
}

impl CleanUp for Instance {
    fn clean_up(&self) {
        let mut postmaster = self.postmaster.lock().unwrap_or_else(PoisonError::into_inner);
        if self.gone.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Some(mut postmaster) = postmaster.take() {
            stop_immediately(&mut postmaster);
        }
        if self.keep {
            self.workdir.keep();
            eprintln!("kept: {}", self.workdir.path().display());
        } else {
            self.workdir.remove();
        }
    }
}

/// The socket is private, so any number would do; one other than 5432 keeps clients that forget to name the socket's
/// folder from ever meeting a system cluster.
fn port_of_socket() -> Result<u16> {
    Ok(20_000 + u16::try_from(std::process::id() % 40_000)?)
}

/// One that nobody listens at, as the kernel knows.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((LOOPBACK, 0))?.local_addr()?.port())
}

fn stop_immediately(postmaster: &mut Child) {
    if let Ok(pid) = i32::try_from(postmaster.id()) {
        kill(Pid::from_raw(pid), Signal::SIGQUIT).ok();
    }
    postmaster.wait().ok();
}

/// Takes away what would lead a client or server elsewhere (PGHOST, PGDATA, PGSERVICE, ...).
pub fn without_pg_environment(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
}

/// Tells a program that is PostgreSQL's client by its library, in whatever language, where `database` is.
pub fn name_to<'a>(command: &'a mut Command, server: &Server, database: &str) -> &'a mut Command {
    without_pg_environment(command).env("PGHOST", &server.socket_dir).env("PGPORT", server.port.to_string());
    command.env("PGUSER", SUPERUSER).env("PGDATABASE", database)
}
