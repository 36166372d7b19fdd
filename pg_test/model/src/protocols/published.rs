//! The published protocol, an advisory try-lock and a status column, and what is done to mend it.
//!
//! The rebuild is given the benefit of the doubt: it replays every event that it sees and the model lacks, in order.
//! Whatever is lost, the protocol loses.

use super::steps::positions;
use crate::database::{Event, Phase, Projection, Table};
use crate::kernel::{Mode, Target};
use crate::program::{Flow, Program};
use crate::session::{Act, Isolation};

/// What is added to the published protocol, or taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    AsPublished,
    /// After it has released its lock, the rebuild looks for events once more.
    LastCheck,
    /// An append that has skipped reads the status again before it commits.
    Recheck,
    /// The rebuild waits some time before it looks once more.
    GracePeriod,
    /// An append that skips leaves a record, and these are drained in the end.
    SkipRecord,
    /// The rebuild's lock lasts only as long as the statement that takes it: it flips the status without.
    ReleaseWithoutLock,
}

/// A client that appends one event to one stream in each of its transactions.
pub fn append(name: char, stream: char, key: char, rounds: u8, variant: Variant) -> Program {
    let program = Program::new(format!("append {name}"))
        .label("retry")
        .begin(Isolation::ReadCommitted)
        .lock(Target::Stream(stream), Mode::Exclusive)
        .then(move |act| {
            act.insert_event(stream, key);
            Flow::Next
        })
        .then(|act| check_status(act, true))
        .label("verdict")
        .unless_got("skip")
        .then(apply_own)
        .quietly(|_| Flow::To("commit"))
        .label("skip");
    let program = match variant {
        Variant::Recheck => program.then(|act| check_status(act, false)).unless_got("commit").then(apply_own),
        Variant::SkipRecord => program.then(|act| {
            let record = (act.me.memory.position, act.me.xid());
            act.db.skipped.push(record);
            act.db.skipped.sort_unstable();
            act.say(|| "records that it has skipped its event".into());
            Flow::Next
        }),
        _ => program,
    };
    program.label("commit").commit().quietly(move |act| {
        act.me.rounds += 1;
        if act.me.rounds < rounds { Flow::To("retry") } else { Flow::End }
    })
}

/// Whether the model is the append's to update: the shared lock can be had and the status is active.
fn check_status(act: &mut Act<'_>, with_lock: bool) -> Flow {
    let snapshot = act.snapshot();
    let locked = !with_lock || act.try_lock(Target::Advisory, Mode::Share);
    let active = act.read_projection(snapshot).phase == Phase::Active;
    act.me.memory.got = locked && active;
    act.say(|| match (locked, active) {
        (true, true) => "checks: active".into(),
        (false, _) => "checks: the rebuild has the lock, so it skips the model".into(),
        (true, false) => "checks: rebuilding, so it skips the model".into(),
    });
    Flow::Next
}

fn apply_own(act: &mut Act<'_>) -> Flow {
    let own = act.me.memory.position;
    let Some(&event) = act.db.log.iter().find(|event| event.position == own) else { return Flow::Next };
    let flow = act.apply(Table::Live, event, 0);
    if flow == Flow::Next {
        act.say(|| "applies its event to the model".into());
    }
    flow
}

pub fn rebuild(variant: Variant) -> Program {
    let program = Program::new("the rebuild").begin(Isolation::ReadCommitted);
    let program = match variant {
        Variant::ReleaseWithoutLock => program
            .then(|act| match act.try_lock(Target::Advisory, Mode::Exclusive) {
                true => {
                    act.say(|| "takes the advisory lock for this one transaction".into());
                    Flow::Next
                }
                false => Flow::Wait,
            })
            .then(|act| set_status(act, Phase::Rebuilding))
            .commit()
            .begin(Isolation::ReadCommitted),
        _ => program
            .then(|act| act.lock_for_session(Target::Advisory, Mode::Exclusive))
            .then(|act| set_status(act, Phase::Rebuilding))
            .commit()
            .begin(Isolation::ReadCommitted),
    };
    let program = program
        .then(replay_anew)
        .commit()
        .label("last events")
        .begin(Isolation::ReadCommitted)
        .then(replay_missing)
        .commit()
        .begin(Isolation::ReadCommitted)
        .then(|act| set_status(act, Phase::Active))
        .commit();
    let program = match variant {
        Variant::ReleaseWithoutLock => program,
        _ => program.then(|act| {
            act.db.locks.release(Target::Advisory, act.me.number, Mode::Exclusive);
            act.say(|| "releases the advisory lock".into());
            Flow::Next
        }),
    };
    match variant {
        Variant::LastCheck => look_again(program),
        Variant::GracePeriod => look_again(program.then(|act| {
            act.say(|| "waits for the grace period, which ends".into());
            Flow::Next
        })),
        Variant::SkipRecord => drain(program),
        _ => program,
    }
}

fn look_again(program: Program) -> Program {
    program.begin(Isolation::ReadCommitted).then(replay_missing).commit()
}

fn set_status(act: &mut Act<'_>, phase: Phase) -> Flow {
    act.write_projection(Projection { phase, ..Projection::default() });
    act.say(|| match phase {
        Phase::Active => "marks the projection active".into(),
        _ => "marks the projection rebuilding".into(),
    });
    Flow::Next
}

/// Empties the model and replays the events that it sees.
fn replay_anew(act: &mut Act<'_>) -> Flow {
    let empty = act.read_rows(Table::Live).into_keys().map(|key| (key, Vec::new())).collect();
    act.write_rows(Table::Live, empty);
    replay_missing(act)
}

/// Applies the events that it sees and that the model lacks.
fn replay_missing(act: &mut Act<'_>) -> Flow {
    let events = missing(act);
    apply_all(act, &events, "reads the log")
}

fn apply_all(act: &mut Act<'_>, events: &[Event], doing: &str) -> Flow {
    for &event in events {
        match act.apply(Table::Live, event, 0) {
            Flow::Next => {}
            other => return other,
        }
    }
    act.say(|| match events {
        [] => format!("{doing}: the model lacks nothing that it sees"),
        _ => format!("{doing}: applies {}", positions(events)),
    });
    Flow::Next
}

fn missing(act: &mut Act<'_>) -> Vec<Event> {
    let rows = act.read_rows(Table::Live);
    let mut events = act.read_log(0, u8::MAX);
    events.retain(|event| {
        rows.get(&event.key).is_none_or(|row| row.iter().all(|applied| applied.position != event.position))
    });
    events
}

/// Drains skip records as they become visible, until no transaction is left that could leave one.
fn drain(program: Program) -> Program {
    program
        .label("drain")
        .begin(Isolation::ReadCommitted)
        .then(|act| {
            let snapshot = act.snapshot();
            let (ready, later): (Vec<_>, Vec<_>) =
                act.db.skipped.iter().partition(|(_, xid)| snapshot.sees(*xid));
            if ready.is_empty() {
                return end_of_drain(act);
            }
            let mut events = missing(act);
            events.retain(|event| ready.iter().any(|(position, _)| *position == event.position));
            act.db.skipped = later;
            apply_all(act, &events, "drains the skip records")
        })
        .commit()
        .quietly(|_| Flow::To("drain"))
}

fn end_of_drain(act: &mut Act<'_>) -> Flow {
    let mut others = act.db.transactions.open();
    others.remove(act.me.xid());
    if !others.is_empty() {
        return Flow::Wait;
    }
    act.say(|| "finds no skip record, and nobody who could write one".into());
    act.abort();
    Flow::End
}
