//! Cancels and ends backends at random times; and the probe, which only appends to a stream of its own and tells how
//! long an append has to wait when nothing but the gate and the tables stand in its way.

use anyhow::Result;
use rand::RngExt;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::appender::APPEND;
use crate::ledger::{Entry, Outcome, Written};
use crate::operation::Operation;
use crate::plan::generator;
use crate::session::{APP, Fault, Role, Session, explain};
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
        if role == Role::Rebuilder && rng.random_bool(0.7) {
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
        session.client.query(&format!("SELECT {function}($1)"), &[&pid]).map_err(explain)?;
        shared.timeline.add(from, format!("{function}({pid}) ({role:?})"));
    }
    Ok(())
}

/// Until the load is over.
pub fn probe(shared: &Shared) -> Result<()> {
    let mut session = Session::open(shared, Role::Protected, Some(APP))?;
    let append = session.client.prepare(APPEND).map_err(explain)?;
    let mut number = 0_u64;
    while !shared.is_load_over() {
        number += 1;
        let tag = format!("probe-{number}");
        let metadata = format!(r#"{{"tx": "{tag}"}}"#);
        let started = Instant::now();
        let nothing: (Option<i64>, Option<String>) = (None, None);
        let result = session
            .client
            .query_one(&append, &[&"probe", &"probe", &"{}", &metadata, &nothing.0, &nothing.1]);
        shared.stats.probe_took(started);
        match result {
            Ok(row) => {
                let event = Written { stream: "probe".to_owned(), version: row.try_get(0)? };
                let positions = vec![(event.clone(), row.try_get(1)?)];
                shared.record(Entry {
                    tag,
                    outcome: Outcome::Committed,
                    events: vec![event],
                    positions,
                    untold: 0,
                });
                shared.stats.committed(1);
            }
            Err(error) => {
                session.overcome(Operation::Append, Fault::Sql(error))?;
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
