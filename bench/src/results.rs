//! What was measured: every sample of every system in every case, and what is told of them.

use serde::{Deserialize, Serialize};
use statrs::statistics::{Data, Max, Min, OrderStatistics};
use std::fmt;

use crate::case::Case;
use crate::headline::Ratio;
use crate::machine::Machine;

/// All of a run, as it is written to results.json.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    pub cells: Vec<Cell>,
    #[serde(skip_deserializing)]
    pub ratios: Vec<Ratio>,
}

/// One case.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cell {
    pub case: Case,
    pub name: String,
    pub unit: Unit,
    pub series: Vec<Series>,
}

/// One system in one case: a sample for each round.
#[derive(Debug, Serialize, Deserialize)]
pub struct Series {
    pub system: String,
    pub samples: Vec<f64>,
    /// Over all rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// How often a client had to try again, over all rounds.
    pub retries: u64,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub longest: f64,
    pub calls: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    CallsPerSecond,
    Seconds,
    Megabytes,
    /// The longest latency of a round.
    Milliseconds,
}

/// The middle and the ends of some samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// None of no samples.
    pub fn of(samples: &[f64]) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        let mut data = Data::new(samples.to_vec());
        Some(Self { median: data.median(), min: data.min(), max: data.max() })
    }
}

impl Cell {
    pub fn new(case: Case, unit: Unit) -> Self {
        Self { case, name: case.to_string(), unit, series: Vec::new() }
    }

    pub fn series_of(&self, system: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.system == system)
    }
}

impl Series {
    pub fn new(system: &str) -> Self {
        Self { system: system.to_owned(), samples: Vec::new(), latency: None, retries: 0 }
    }
}

impl Latency {
    pub fn of(histogram: &hdrhistogram::Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            longest: histogram.max() as f64 / 1_000.0,
            calls: histogram.len(),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CallsPerSecond => "calls/s",
            Self::Seconds => "s",
            Self::Megabytes => "MB",
            Self::Milliseconds => "ms",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert_eq!(Spread::of(&[4.0, 1.0, 3.0, 2.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(&[]), None);
    }
}
