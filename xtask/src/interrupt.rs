//! Ctrl-C, SIGTERM and SIGHUP: what was started is stopped and removed before the process ends.

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

/// Something that must not outlive this process.
pub trait CleanUp: Send + Sync {
    /// Called from the signal thread too, while others may use the thing; calling it twice does no harm.
    fn clean_up(&self);
}

static RUNNING: Mutex<Vec<Weak<dyn CleanUp>>> = Mutex::new(Vec::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static FOREGROUND_CHILD: AtomicBool = AtomicBool::new(false);

/// Starts the thread that waits for signals. Call once, at the start of the process.
pub fn listen() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGINT && FOREGROUND_CHILD.load(Ordering::SeqCst) {
                continue;
            }
            INTERRUPTED.store(true, Ordering::SeqCst);
            for cleanable in lock().iter().filter_map(Weak::upgrade) {
                cleanable.clean_up();
            }
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// Has `cleanable` cleaned up on a signal. Fails once a signal has come: nothing new may be started then.
pub fn register(cleanable: Weak<dyn CleanUp>) -> Result<()> {
    let mut running = lock();
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    running.retain(|other| other.strong_count() > 0);
    running.push(cleanable);
    Ok(())
}

/// Runs `interactive`, a child on the terminal that makes its own use of Ctrl-C (psql cancels its query).
pub fn left_to_child<T>(interactive: impl FnOnce() -> T) -> T {
    FOREGROUND_CHILD.store(true, Ordering::SeqCst);
    let result = interactive();
    FOREGROUND_CHILD.store(false, Ordering::SeqCst);
    result
}

/// Never returns once a signal has come: the process is about to end, and what fails meanwhile, because its server is
/// gone, is no news.
pub fn stand_still_if_interrupted() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        thread::park();
    }
}

fn lock() -> MutexGuard<'static, Vec<Weak<dyn CleanUp>>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
