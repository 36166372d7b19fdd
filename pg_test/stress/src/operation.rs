//! What the clients of a run do, and which errors each of these may end in: the closed list. Any other fails the run.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Append,
    Commit,
    Prepare,
    FinishPrepared,
    Rebuild,
    Create,
    Drop,
    Alter,
    Verify,
    Look,
    Poll,
    /// Starts a job, and waits for it or not.
    StartJob,
    ControlJob,
    RebuildKey,
    /// What must succeed, unless the server crashes.
    Watch,
}

/// Of a handler that fails now and then, but for replays.
pub const FLAW: &str = "ST001";
/// Of a handler that cannot take some events at all: it is live where those so far are left out.
pub const BRITTLE: &str = "ST002";

impl Operation {
    /// Serialization failure, deadlock, query cancelled (also statement_timeout), terminated, lock not available,
    /// object in use, unknown object, it exists. Connections lost without 57P01 count only if they were ended.
    pub fn allows(self, sqlstate: &str) -> bool {
        let allowed: &[&str] = match self {
            // A handler that fails on purpose.
            Self::Append => &["40001", "40P01", "55P03", FLAW, BRITTLE],
            Self::Commit | Self::Prepare => &["40001"],
            // Unknown: the session was ended before it had prepared.
            Self::FinishPrepared => return ["42704", "57P01"].contains(&sqlstate),
            Self::Rebuild => &["55006", "55P03", "40P01", "42704"],
            Self::Create => &["55P03", "40P01"],
            Self::Drop => &["55006", "55P03", "40P01"],
            // May rebuild in the same transaction.
            Self::Alter => &["55006", "55P03", "40P01"],
            Self::Verify => &["55006", "42704", "40001"],
            Self::Look | Self::Poll => &["40001"],
            // Also: a job that was waited for was paused or cancelled; a model that is incomplete anyway is rebuilt in
            // place, without a grace period.
            Self::StartJob => &["55006", "55000", "22023", "55P03", "40P01", "42704"],
            // Also: there is no job, or not in this phase.
            Self::ControlJob => &["55006", "55000", "55P03", "40P01", "42704"],
            Self::RebuildKey => &["55006", "55000", "55P03", "40P01", "42704"],
            Self::Watch => return sqlstate == "57P01",
        };
        allowed.contains(&sqlstate) || sqlstate == "57014" || sqlstate == "57P01"
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Append => "append",
            Self::Commit => "commit",
            Self::Prepare => "prepare transaction",
            Self::FinishPrepared => "commit or rollback prepared",
            Self::Rebuild => "rebuild",
            Self::Create => "create projection",
            Self::Drop => "drop projection",
            Self::Alter => "alter table",
            Self::Verify => "verify",
            Self::Look => "look",
            Self::Poll => "poll",
            Self::StartJob => "start a job",
            Self::ControlJob => "control a job",
            Self::RebuildKey => "rebuild a key",
            Self::Watch => "watch",
        };
        formatter.pad(name)
    }
}
