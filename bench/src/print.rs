//! What a run prints: a table of all cells, and one of the ratios.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::headline::{Ratio, Target};
use crate::results::{Cell, Series, Spread};

/// A row for each system of each cell.
pub fn cells(cells: &[Cell]) -> String {
    let mut table =
        table(&["case", "system", "median", "min..max", "p50", "p99", "p99.9", "longest", "retries"]);
    for cell in cells {
        for (number, series) in cell.series.iter().enumerate() {
            let name = if number == 0 { cell.name.as_str() } else { "" };
            table.add_row(row(name, cell, series));
        }
    }
    align_right(&mut table, 2..9);
    table.to_string()
}

fn row(name: &str, cell: &Cell, series: &Series) -> Vec<String> {
    let mut row = vec![name.to_owned(), series.system.clone()];
    row.extend(match Spread::of(&series.samples) {
        Some(spread) => [
            format!("{} {}", number(spread.median), cell.unit),
            format!("{}..{}", number(spread.min), number(spread.max)),
        ],
        None => ["-".to_owned(), String::new()],
    });
    if let Some(latency) = series.latency {
        let latencies = [latency.p50, latency.p99, latency.p999, latency.longest];
        row.extend(latencies.map(|millis| format!("{millis:.2} ms")));
        row.push(if series.retries > 0 { series.retries.to_string() } else { String::new() });
    }
    row
}

/// Each ratio beside its target.
pub fn ratios(ratios: &[Ratio]) -> String {
    let mut table = table(&["refold", "beside", "measured", "min..max", "target", ""]);
    for ratio in ratios {
        let (unit, target) = match ratio.target {
            Some(Target::AtLeast(limit)) => (" x", format!(">= {limit} x")),
            Some(Target::AtMost { limit, unit }) => (unit, format!("<= {limit}{unit}")),
            None => (" x", String::new()),
        };
        let [measured, spread] = match ratio.measured {
            Some(Spread { median, min, max }) => {
                [format!("{median:.2}{unit}"), format!("{min:.2}..{max:.2}")]
            }
            None => ["not in this build".to_owned(), String::new()],
        };
        let verdict = match ratio.holds() {
            Some(true) => "holds",
            Some(false) => "MISSED",
            None => "",
        };
        table.add_row([&ratio.what, &ratio.beside, &measured, &spread, &target, verdict]);
    }
    align_right(&mut table, 2..5);
    table.to_string()
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

fn align_right(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Three digits.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}
