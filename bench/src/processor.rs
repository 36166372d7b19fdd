//! One processor for a client and its backend.
//!
//! Where a client and its backend run side by side, each call waits twice until an idle processor wakes up, which takes a
//! guest as long as the call. Which of the two a round meets is the kernel's whim: that is all that one would see.

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// While it lives, this thread, what it starts and the backends that it connects to share one processor.
pub struct Shared {
    before: CpuSet,
}

impl Shared {
    pub fn begin() -> Result<Self> {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this)?;
        // The first is where a machine handles its interrupts as a rule.
        let last = (0..CpuSet::count())
            .rev()
            .find(|&processor| before.is_set(processor).unwrap_or(false))
            .context("there is no processor")?;
        let mut one = CpuSet::new();
        one.set(last)?;
        sched_setaffinity(this, &one)?;
        Ok(Self { before })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // What was in force before can be again.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

/// Lets a backend run where this thread does.
pub fn share_with(backend: i32) -> Result<()> {
    let here = sched_getaffinity(Pid::from_raw(0))?;
    sched_setaffinity(Pid::from_raw(backend), &here).context("cannot say where a backend runs")
}
