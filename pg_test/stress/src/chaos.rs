//! Cancels and ends backends at random times.

use anyhow::Result;
use rand::RngExt;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::operation::Operation;
use crate::plan::generator;
use crate::session::{Fault, Role, Session};
use crate::shared::Shared;

/// Until the load is over.
pub fn disturb(shared: &Shared) -> Result<()> {
    let mut session = Session::open(shared, Role::Protected, None)?;
    let mut rng = generator(shared.seed, 5000);
    while !shared.is_load_over() {
        thread::sleep(Duration::from_millis(rng.random_range(5..=120)));
        let victims = shared.victims();
        let pick = rng.random_range(0..1_000_000_usize);
        let ends = rng.random_bool(0.08);
        let Some((pid, role)) = pick.checked_rem(victims.len()).and_then(|index| victims.get(index).copied())
        else {
            continue;
        };
        // What takes long should get to its end now and then.
        let spared = match role {
            Role::Rebuilder => 0.7,
            Role::Operator => 0.95,
            _ => 0.0,
        };
        if rng.random_bool(spared) {
            continue;
        }
        let from = SystemTime::now();
        let function = if ends {
            shared.expect_end(pid);
            shared.stats.terminated();
            "pg_terminate_backend"
        } else {
            shared.stats.cancelled();
            "pg_cancel_backend"
        };
        // Not again after a crash: the number may be another's then.
        if let Err(error) = session.client.query(&format!("SELECT {function}($1)"), &[&pid]) {
            session.overcome(Operation::Watch, Fault::Sql(error))?;
        }
        shared.timeline.add(from, format!("{function}({pid}) ({role:?})"));
    }
    Ok(())
}
