//! A rebuild's progress, where other sessions can see it: PostgreSQL's own progress slot of this backend.
//!
//! The slot is started as COPY's, on the gate (COPY runs in no rebuild), and read back by the view
//! refold.rebuild_progress. Parameters 3 to 5 are WaitForLockers' own.

use pgrx::pg_sys;

/// What a rebuild is doing; the numbers are those of the view.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Preparing = 1,
    Replaying = 2,
    Indexing = 3,
    CatchingUp = 4,
    WaitingForAppends = 5,
    Merging = 6,
    Comparing = 8,
}

/// Whose progress it is; the numbers are those of the view.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Rebuild = 0,
    Verify = 1,
    /// A worker's: the job's row tells more.
    Job = 2,
}

const PHASE: usize = 0;
const PROJECTION: usize = 1;
const STARTED: usize = 2;
const EVENTS_TOTAL: usize = 6;
const EVENTS_DONE: usize = 7;
const GATE_ATTEMPTS: usize = 8;
/// Out of the way of index builds, which write 9 to 16 into whatever slot there is (a new table's toast has an index).
const KIND: usize = 18;
/// How many values of the slot are written.
const WIDTH: usize = KIND + 1;

/// The progress of one rebuild.
pub struct Progress {
    gate: pg_sys::Oid,
    values: [i64; WIDTH],
}

impl Progress {
    /// Starts reporting.
    pub fn start(gate: pg_sys::Oid, projection: i64, kind: Kind) -> Self {
        let mut values = [0; WIDTH];
        // SAFETY: reads the clock.
        values[STARTED] = unsafe { pg_sys::GetCurrentTimestamp() };
        values[PROJECTION] = projection;
        values[PHASE] = Phase::Preparing as i64;
        values[KIND] = kind as i64;
        let progress = Self { gate, values };
        progress.publish();
        progress
    }

    /// Writes all values again: commands that report progress of their own (CREATE INDEX, ANALYZE) take the slot.
    pub fn publish(&self) {
        // SAFETY: the slot is this backend's own.
        unsafe {
            pg_sys::pgstat_progress_start_command(
                pg_sys::ProgressCommandType::PROGRESS_COMMAND_COPY,
                self.gate,
            );
        }
        for (index, &value) in self.values.iter().enumerate() {
            update(index, value);
        }
    }

    pub fn phase(&mut self, phase: Phase) {
        self.values[PHASE] = phase as i64;
        self.publish();
    }

    pub fn total(&mut self, events: i64) {
        self.set(EVENTS_TOTAL, events);
    }

    pub fn done(&mut self, events: i64) {
        self.set(EVENTS_DONE, events);
    }

    pub fn attempts(&mut self, attempts: i32) {
        self.set(GATE_ATTEMPTS, attempts.into());
    }

    /// Clears the slot. On an error the transaction's abort does.
    pub fn end(self) {
        // SAFETY: the slot is this backend's own.
        unsafe { pg_sys::pgstat_progress_end_command() }
    }

    fn set(&mut self, index: usize, value: i64) {
        self.values[index] = value;
        update(index, value);
    }
}

fn update(index: usize, value: i64) {
    // SAFETY: the slot is this backend's own and has 20 values.
    unsafe { pg_sys::pgstat_progress_update_param(index as i32, value) }
}
