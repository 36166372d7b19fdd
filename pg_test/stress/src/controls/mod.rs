//! Negative controls: what a run checks must fail where something is wrong. One for each class of check.
//!
//! | the check | its control |
//! |---|---|
//! | each snapshot against the fold in plain SQL | `published`, `models` |
//! | ... in REPEATABLE READ and SERIALIZABLE | `models`: a merge by TRUNCATE |
//! | ... while a rebuild job is at work, and after it | `jobs` |
//! | `verify_projection` | `models` |
//! | no event applied twice or not at all | `models`, `doors` |
//! | the log against what clients were told; versions without holes; all of a transaction or nothing | `log` |
//! | an event_id that is retried, or raced for | `doors` |
//! | `read_all` gives every event | `pollers` |

mod doors;
mod jobs;
mod log;
mod models;
mod pollers;
mod published;

use anyhow::{Result, anyhow};
use postgres::{Client, Config};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::appender::Appender;
use crate::finisher;
use crate::retrier::Retrier;
use crate::session::explain;
use crate::shared::Shared;

/// A named control; it needs an empty database and a superuser.
pub struct Control {
    pub name: &'static str,
    pub run: fn(&Config) -> Result<()>,
}

pub const CONTROLS: [Control; 19] = [
    Control { name: "finds the published protocol's loss", run: published::as_it_is },
    Control { name: "finds its loss with a last check after the release", run: published::last_check },
    Control { name: "finds its loss with a re-check before the commit", run: published::recheck },
    Control { name: "finds its loss with a grace period", run: published::grace_period },
    Control { name: "finds its disorder with a skip record", run: published::skip_record },
    Control { name: "finds nothing if its appends wait", run: published::waiting },
    Control { name: "finds a corrupted row", run: models::corrupted },
    Control { name: "finds a merge that old snapshots see, by those alone", run: models::truncating },
    Control { name: "finds a log that is not what clients were told", run: log::not_as_told },
    Control { name: "finds a poller that misses an event", run: pollers::naive },
    Control { name: "finds an append that is lost", run: doors::lost },
    Control { name: "finds a retried append that is doubled", run: doors::doubled },
    Control { name: "finds a retried append that is told otherwise", run: doors::told_otherwise },
    Control { name: "finds an event_id in two streams", run: doors::two_streams },
    Control { name: "finds an event that is applied twice", run: doors::applied_twice },
    Control { name: "finds a swap beside an old snapshot, in that alone", run: jobs::hasty_swap },
    Control { name: "finds a shadow whose failure was forgotten", run: jobs::forgotten_failure },
    Control { name: "finds events that a rebuild in place has skipped", run: jobs::open_gate },
    Control { name: "finds an event that was left out and is back", run: jobs::forgotten_skip },
];

/// How long a control looks for what is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

fn execute(client: &mut Client, script: &str) -> Result<()> {
    client.batch_execute(script).map_err(explain)
}

/// Appends, and nothing else, for so long.
fn append_for(shared: &Shared, time: Duration) -> Result<()> {
    let is_load_joined = AtomicBool::new(false);
    let panicked = |_| anyhow!("a thread panicked");
    thread::scope(|scope| {
        let finisher = scope.spawn(|| finisher::run(shared, &|| is_load_joined.load(Ordering::Acquire)));
        let writer = scope.spawn(|| Appender::open(shared, 1)?.run());
        let retrier = scope.spawn(|| Retrier::open(shared, 1)?.run());
        thread::sleep(time);
        shared.end_load();
        let (written, retried) = (writer.join().map_err(panicked), retrier.join().map_err(panicked));
        is_load_joined.store(true, Ordering::Release);
        let finished = finisher.join().map_err(panicked);
        [written?, retried?, finished?].into_iter().collect()
    })
}
