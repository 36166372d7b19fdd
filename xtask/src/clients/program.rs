//! A client at work: its lines as it prints them, and its end. Each wait is for something that it does, and fails when it has
//! ended without that, or not done it in a long time.

use anyhow::{Context, Result, bail};
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Killed when it is dropped before its end.
pub struct Program {
    child: Child,
    printed: Receiver<String>,
    lines: Vec<String>,
    complaints: Option<JoinHandle<String>>,
}

/// What is left of one.
pub struct Ended {
    pub is_success: bool,
    /// All that it has printed.
    pub lines: Vec<String>,
    /// What it has written to its standard error.
    pub complaints: String,
}

impl Program {
    pub fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let output = child.stdout.take().context("it has no standard output")?;
        let mut errors = child.stderr.take().context("it has no standard error")?;
        let (sender, printed) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let complaints = thread::spawn(move || {
            let mut text = Vec::new();
            errors.read_to_end(&mut text).ok();
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { child, printed, lines: Vec::new(), complaints: Some(complaints) })
    }

    /// Waits until the program has brought something about.
    pub fn wait_until(&mut self, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
        let started = Instant::now();
        while !is_so()? {
            if self.child.try_wait()?.is_some() {
                bail!("it ended too early: {}", self.wait_for_end()?);
            }
            if started.elapsed() > PATIENCE {
                bail!("it is stuck: {}", self.kill()?);
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Waits until it prints such a line.
    pub fn wait_for_line(&mut self, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.printed.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let is_it = is_wanted(&line);
                    self.lines.push(line);
                    if is_it {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("it is stuck: {}", self.kill()?),
                Err(RecvTimeoutError::Disconnected) => bail!("it ended too early: {}", self.wait_for_end()?),
            }
        }
    }

    pub fn wait_for_end(&mut self) -> Result<Ended> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.printed.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.lines.push(line),
                Err(RecvTimeoutError::Timeout) => bail!("it does not end: {}", self.kill()?),
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
        }
    }

    fn kill(&mut self) -> Result<Ended> {
        self.child.kill()?;
        self.end()
    }

    fn end(&mut self) -> Result<Ended> {
        let status = self.child.wait()?;
        self.lines.extend(self.printed.iter());
        let complaints = self.complaints.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok(Ended { is_success: status.success(), lines: std::mem::take(&mut self.lines), complaints })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\n{}\n{}", self.lines.join("\n"), self.complaints.trim())
    }
}
