//! The ratios that refold is held to, each with its target.

use serde::Serialize;

use crate::case::{Case, During, Kind, Streams};
use crate::plan::{LARGE_REBUILD, SMALL_REBUILD};
use crate::results::{Cell, Series, Spread, Unit};
use crate::system::{Refold, System};

/// The server's setting, in megabytes.
const WORK_MEM: f64 = 4.0;
/// What the others' names begin with that it is compared with.
const BARE: &str = "bare SQL";

#[derive(Debug, Serialize)]
pub struct Ratio {
    pub what: String,
    pub beside: String,
    /// None: it could not be measured.
    pub measured: Option<Spread>,
    /// None: it is only told.
    pub target: Option<Target>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    AtLeast(f64),
    AtMost { limit: f64, unit: &'static str },
}

impl Ratio {
    /// None where nothing was measured, or nothing is asked.
    pub fn holds(&self) -> Option<bool> {
        let median = self.measured?.median;
        Some(match self.target? {
            Target::AtLeast(limit) => median >= limit,
            Target::AtMost { limit, .. } => median <= limit,
        })
    }
}

/// All that the cells allow to say.
pub fn ratios(cells: &[Cell]) -> Vec<Ratio> {
    let mut ratios: Vec<_> = cells.iter().filter_map(compared).collect();
    ratios.extend(cells.iter().filter_map(|cell| variant(cell, Refold::Unchanged, "no row differs")));
    ratios.extend(cells.iter().filter_map(|cell| variant(cell, Refold::Parallel, "parallel workers")));
    ratios.extend(cells.iter().flat_map(beside));
    ratios.extend(cells.iter().filter_map(stall));
    ratios.extend(growth(cells));
    ratios
}

/// refold's speed as a share of the bare one's: of the faster, where there are two ways to do it by hand.
fn compared(cell: &Cell) -> Option<Ratio> {
    let target = Some(Target::AtLeast(least(&cell.case)?));
    let refold = cell.series_of(Refold::Alone.name())?;
    let bare = cell.series.iter().filter(|series| series.system.starts_with(BARE));
    let compared = bare.filter_map(|bare| Some((bare, Spread::of(&speeds(cell.unit, refold, bare))?)));
    let (bare, measured) = compared.min_by(|(_, one), (_, other)| one.median.total_cmp(&other.median))?;
    Some(Ratio { what: cell.name.clone(), beside: bare.system.clone(), measured: Some(measured), target })
}

/// One number for each round: what else the machine does in a round slows both.
fn speeds(unit: Unit, refold: &Series, bare: &Series) -> Vec<f64> {
    let rounds = refold.samples.iter().zip(&bare.samples);
    rounds
        .map(|(refold, bare)| match unit {
            Unit::CallsPerSecond => refold / bare,
            Unit::Seconds | Unit::Megabytes | Unit::Milliseconds => bare / refold,
        })
        .collect()
}

/// What the design asks of a case.
fn least(case: &Case) -> Option<f64> {
    match case {
        Case::Append(work) if work.synchronous_commit || work.streams == Streams::Hot => None,
        Case::Append(work) => match work.models {
            None if work.events == 1 || work.events == 100 => Some(0.85),
            Some(models) if models.count == 1 && models.kind != Kind::PerBatch => Some(0.85),
            _ => None,
        },
        Case::Rebuild(work) if work.log.events == LARGE_REBUILD && work.log.one_in == 1 => match work.kind {
            Kind::Fold => Some(0.9),
            Kind::PerBatch => Some(0.5),
            Kind::PerEvent => None,
        },
        _ => None,
    }
}

/// The rebuild above changes all rows, in one process. What it costs otherwise.
fn variant(cell: &Cell, refold: Refold, how: &str) -> Option<Ratio> {
    least(&cell.case)?;
    let refold = cell.series_of(refold.name())?;
    let measured = Spread::of(&speeds(cell.unit, refold, cell.series_of(BARE)?));
    Some(Ratio { what: format!("{}: {how}", cell.name), beside: BARE.to_owned(), measured, target: None })
}

/// What refold's speed becomes by other work of its own.
fn beside(cell: &Cell) -> Vec<Ratio> {
    let Case::Beside(work) = cell.case else { return vec![] };
    let ratio = |what: &Series, beside, target| {
        let measured = Spread::of(&speeds(cell.unit, what, cell.series_of(beside)?));
        let what = format!("{work}: {}", what.system.trim_start_matches("refold, "));
        Some(Ratio { what, beside: beside.to_owned(), measured, target })
    };
    let of =
        |system: Refold, beside: Refold, target| ratio(cell.series_of(system.name())?, beside.name(), target);
    [
        of(Refold::BesideOthers, Refold::Alone, Some(Target::AtLeast(0.9))),
        of(Refold::BesideRebuild, Refold::Alone, None),
        of(Refold::BesideRebuild, Refold::BesideTwin, None),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The longest append of each round.
fn stall(cell: &Cell) -> Option<Ratio> {
    let Case::Stall(work) = cell.case else { return None };
    (work.during == During::Concurrent).then(|| Ratio {
        what: format!("longest {}", cell.name),
        beside: String::new(),
        measured: cell.series_of(Refold::Alone.name()).and_then(|series| Spread::of(&series.samples)),
        target: Some(Target::AtMost { limit: 50.0, unit: " ms" }),
    })
}

/// How much more memory the rebuild of ten times as many events takes: what a sort and a hash may.
fn growth(cells: &[Cell]) -> Vec<Ratio> {
    let memory = |kind, system: Refold, events| {
        cells.iter().find_map(|cell| match cell.case {
            Case::RebuildMemory(work)
                if work.kind == kind && work.log.events == events && work.log.one_in == 1 =>
            {
                cell.series_of(system.name())
            }
            _ => None,
        })
    };
    let growth = |(kind, system)| {
        let (small, large) = (memory(kind, system, SMALL_REBUILD)?, memory(kind, system, LARGE_REBUILD)?);
        let how = system.name().replacen("refold", "", 1).replacen(", ", ": ", 1);
        let growths: Vec<_> =
            large.samples.iter().zip(&small.samples).map(|(large, small)| large - small).collect();
        Some(Ratio {
            what: format!("memory that a rebuild {kind} of 1M events takes more{how}"),
            beside: "one of 100k events".to_owned(),
            measured: Spread::of(&growths),
            target: Some(Target::AtMost { limit: 2.0 * WORK_MEM, unit: " MB" }),
        })
    };
    [
        (Kind::Fold, Refold::Alone),
        (Kind::PerBatch, Refold::Alone),
        (Kind::PerEvent, Refold::Alone),
        (Kind::PerEvent, Refold::Concurrent),
    ]
    .into_iter()
    .filter_map(growth)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::{Target, ratios};
    use crate::case::{Append, Case, Streams};
    use crate::results::{Cell, Series, Unit};

    #[test]
    fn compares_round_by_round_with_the_faster_way_by_hand() {
        let append =
            Append { clients: 1, events: 1, streams: Streams::New, models: None, synchronous_commit: false };
        let mut cell = Cell::new(Case::Append(append), Unit::CallsPerSecond);
        for (system, samples) in
            [("refold", [90.0, 45.0]), ("bare SQL", [80.0, 40.0]), ("bare SQL, one statement", [100.0, 50.0])]
        {
            cell.series.push(Series { samples: samples.to_vec(), ..Series::new(system) });
        }
        let ratios = ratios(&[cell]);
        let [ratio] = &ratios[..] else { unreachable!("one cell, one ratio") };
        assert_eq!(ratio.beside, "bare SQL, one statement");
        assert!(ratio.measured.is_some_and(|spread| (spread.median - 0.9).abs() < 1e-9));
        assert!(matches!(ratio.target, Some(Target::AtLeast(0.85))));
        assert_eq!(ratio.holds(), Some(true));
    }
}
