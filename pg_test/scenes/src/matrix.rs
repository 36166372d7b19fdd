//! Every pair of operations at every isolation level in every schedule that tells something, and the table of what comes
//! of it.

use anyhow::Result;

use crate::operation::{Level, Operation, Schedule};
use crate::scene::Meeting;
use crate::session::Stage;
use crate::world::Kind;

/// The sessions that a stage for meetings has.
pub const CAST: [&str; 2] = ["first", "second"];

/// What comes of two operations at some levels, in each schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    operations: [Operation; 2],
    kinds: Vec<Kind>,
    /// Of the operation that keeps its snapshot there, or of both.
    levels: Vec<Level>,
    outcomes: Vec<String>,
}

/// The pairs, in the order of the table.
pub fn pairs() -> Vec<[Operation; 2]> {
    let all = Operation::ALL;
    (0..all.len()).flat_map(|one| all[one..].iter().map(move |&other| [all[one], other])).collect()
}

/// The table as far as it was played.
#[derive(Debug, Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Lets two operations meet, in either order, at all levels.
    pub fn play(&mut self, stage: &mut Stage, kind: Kind, [one, other]: [Operation; 2]) -> Result<()> {
        let orders = if one == other { vec![[one, other]] } else { vec![[one, other], [other, one]] };
        for operations in orders {
            let mut rows: Vec<Row> = Vec::new();
            for (level, levels) in levels_of(operations) {
                let meeting = Meeting { kind, operations, levels };
                let outcomes = outcomes(stage, meeting)?;
                match rows.iter_mut().find(|row| row.outcomes == outcomes) {
                    Some(row) => row.levels.push(level),
                    None => rows.push(Row { operations, kinds: vec![kind], levels: vec![level], outcomes }),
                }
            }
            refusals(stage, kind, operations)?;
            rows.into_iter().for_each(|row| self.add(row));
        }
        Ok(())
    }

    /// A row that another kind of handler has too is one row.
    fn add(&mut self, row: Row) {
        let Row { operations, levels, outcomes, .. } = &row;
        let same = |other: &&mut Row| {
            (&other.operations, &other.levels, &other.outcomes) == (operations, levels, outcomes)
        };
        match self.0.iter_mut().find(same) {
            Some(other) => other.kinds.extend(row.kinds),
            None => self.0.push(row),
        }
    }

    /// In text.
    pub fn render(&self) -> String {
        let mut lines =
            vec![line(["first", "second", "handler", "level"], &Schedule::ALL.map(Schedule::name))];
        for pair in pairs() {
            for order in [pair, [pair[1], pair[0]]] {
                let already = order == pair && order[0] == order[1];
                let rows = self.0.iter().filter(|row| row.operations == order);
                lines.extend(rows.map(Row::render));
                if already {
                    break;
                }
            }
        }
        lines.join("\n")
    }
}

impl Row {
    fn render(&self) -> String {
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.name()).collect();
        let levels: Vec<_> = self.levels.iter().map(|level| level.short()).collect();
        let (kinds, levels) = (kinds.join(", "), levels.join(" "));
        let any =
            |joined: String, all: usize, some: usize| if all == some { "any".to_owned() } else { joined };
        let kinds = any(kinds, PLAYED.len(), self.kinds.len());
        let levels = any(levels, Level::ALL.len(), self.levels.len());
        let outcomes: Vec<_> = self.outcomes.iter().map(String::as_str).collect();
        let [first, second] = self.operations.map(Operation::name);
        line([first, second, &kinds, &levels], &outcomes)
    }
}

/// The kinds of handlers that the meetings are played with: one that depends on the order of the log, and one in which
/// PostgreSQL finds no conflict. What a handler is called with does not matter here.
pub const PLAYED: [Kind; 2] = [Kind::Fold, Kind::PerEvent];

fn line(head: [&str; 4], outcomes: &[&str]) -> String {
    let [first, second, kinds, levels] = head;
    let mut line = format!("{first:13}{second:13}{kinds:10}{levels:7}");
    outcomes.iter().for_each(|outcome| line.push_str(&format!("{outcome:13}")));
    line.trim_end().to_owned()
}

/// The levels at which both are accepted: the one that is shown, and those of the sessions.
fn levels_of(operations: [Operation; 2]) -> Vec<(Level, [Level; 2])> {
    if operations.iter().all(|operation| operation.needs_read_committed()) {
        return vec![(Level::ReadCommitted, [Level::ReadCommitted; 2])];
    }
    let of = |operation: Operation, level| {
        if operation.needs_read_committed() { Level::ReadCommitted } else { level }
    };
    Level::ALL.map(|level| (level, operations.map(|operation| of(operation, level)))).to_vec()
}

fn outcomes(stage: &mut Stage, meeting: Meeting) -> Result<Vec<String>> {
    let mut outcomes: Vec<String> = Vec::new();
    for schedule in Schedule::ALL {
        // Who waits for the first one's end cannot end before it.
        let waits =
            schedule == Schedule::Overtakes && outcomes.iter().any(|outcome| outcome.contains("waits"));
        outcomes.push(if waits || !schedule.tells(meeting.operations) {
            "-".to_owned()
        } else {
            meeting.play(stage, schedule)?
        });
    }
    Ok(outcomes)
}

/// Where one needs READ COMMITTED, both at another level: one schedule tells all.
fn refusals(stage: &mut Stage, kind: Kind, operations: [Operation; 2]) -> Result<()> {
    if operations.iter().any(|operation| operation.needs_read_committed()) {
        for level in [Level::RepeatableRead, Level::Serializable] {
            Meeting { kind, operations, levels: [level; 2] }.play(stage, Schedule::Meanwhile)?;
        }
    }
    Ok(())
}
