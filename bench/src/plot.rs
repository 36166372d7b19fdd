//! Plots of the cells, as SVG: a line for each system where a case has a size, bars where it has none.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;
use std::path::Path;

use crate::case::{Append, Case, During, Kind, Streams};
use crate::results::{Cell, Series, Spread};

const SIZE: (u32, u32) = (900, 480);

/// A chart of lines: which cells are in it, and where on the x axis.
struct Lines<'a> {
    file: &'a str,
    title: &'a str,
    x: &'a str,
    y: &'a str,
    is_logarithmic: bool,
    place: &'a dyn Fn(&Case) -> Option<f64>,
    value: &'a dyn Fn(&Series) -> Option<f64>,
}

/// The name of a line, and its points.
type Line = (&'static str, Vec<(f64, f64)>);

pub fn draw_all(cells: &[Cell], folder: &Path) -> Result<()> {
    let median = |series: &Series| Some(Spread::of(&series.samples)?.median);
    let append = |streams: Streams, durable: bool| {
        move |case: &Case| match case {
            Case::Append(Append { clients, events: 1, streams: those, models: None, synchronous_commit })
                if *those == streams && *synchronous_commit == durable =>
            {
                Some(*clients as f64)
            }
            _ => None,
        }
    };
    for (file, title, streams, durable) in [
        ("append_new", "append one event, new streams", Streams::New, false),
        ("append_hot", "append one event, one hot stream", Streams::Hot, false),
        ("append_new_durable", "append one event, new streams, synchronous_commit = on", Streams::New, true),
        (
            "append_hot_durable",
            "append one event, one hot stream, synchronous_commit = on",
            Streams::Hot,
            true,
        ),
    ] {
        let place = append(streams, durable);
        let lines = Lines {
            file,
            title,
            x: "clients",
            y: "appends/s",
            is_logarithmic: false,
            place: &place,
            value: &median,
        };
        lines.draw(cells, folder)?;
    }
    for (file, kind, one_in) in [
        ("rebuild_fold", Kind::Fold, 1),
        ("rebuild_per_event", Kind::PerEvent, 1),
        ("rebuild_per_batch", Kind::PerBatch, 1),
        ("rebuild_fold_1_in_100", Kind::Fold, 100),
        ("rebuild_per_event_1_in_100", Kind::PerEvent, 100),
        ("rebuild_per_batch_1_in_100", Kind::PerBatch, 100),
    ] {
        let title = format!("rebuild, {kind}, one event in {one_in} taken");
        let place = |case: &Case| match case {
            Case::Rebuild(work) if work.kind == kind && work.log.one_in == one_in => {
                Some(work.log.events as f64)
            }
            _ => None,
        };
        let lines = Lines {
            file,
            title: &title,
            x: "events",
            y: "seconds",
            is_logarithmic: true,
            place: &place,
            value: &median,
        };
        lines.draw(cells, folder)?;
    }
    for (file, during) in [("stall_atomic", During::Atomic), ("stall_concurrent", During::Concurrent)] {
        let place = |case: &Case| match case {
            Case::Stall(work) if work.during == during => Some(work.rows as f64),
            _ => None,
        };
        let lines = Lines {
            file,
            title: "longest append during a rebuild",
            x: "rows of the model",
            y: "milliseconds",
            is_logarithmic: true,
            place: &place,
            value: &median,
        };
        lines.draw(cells, folder)?;
    }
    let with_models: Vec<_> = cells
        .iter()
        .filter(|cell| {
            matches!(cell.case, Case::Append(Append { models: Some(_), synchronous_commit: false, .. }))
        })
        .collect();
    bars("append_with_models", "append one event with inline projections, appends/s", &with_models, folder)?;
    let many: Vec<_> = cells
        .iter()
        .filter(|cell| {
            matches!(cell.case, Case::Append(Append { events: 2.., synchronous_commit: false, .. }))
        })
        .collect();
    bars("append_many", "append several events at once, calls/s", &many, folder)?;
    let reads: Vec<_> = cells.iter().filter(|cell| matches!(cell.case, Case::Read(_))).collect();
    bars("read", "read a stream, streams/s", &reads, folder)
}

impl Lines<'_> {
    fn draw(&self, cells: &[Cell], folder: &Path) -> Result<()> {
        let lines = self.lines(cells);
        let points: Vec<_> = lines.iter().flat_map(|(_, points)| points.iter().copied()).collect();
        let Some((x, y)) = bounds(&points) else { return Ok(()) };
        let path = folder.join(format!("{}.svg", self.file));
        let area = SVGBackend::new(&path, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area);
        chart.caption(self.title, ("sans-serif", 20)).margin(12).x_label_area_size(40).y_label_area_size(70);
        if self.is_logarithmic {
            let chart =
                chart.build_cartesian_2d((x.0..x.1 * 1.2).log_scale(), (y.0 / 2.0..y.1 * 2.0).log_scale());
            self.fill(chart.map_err(failed)?, &lines)?;
        } else {
            self.fill(chart.build_cartesian_2d(0.0..x.1 * 1.05, 0.0..y.1 * 1.1).map_err(failed)?, &lines)?;
        }
        area.present().map_err(failed)
    }

    fn lines(&self, cells: &[Cell]) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for cell in cells {
            let Some(x) = (self.place)(&cell.case) else { continue };
            for series in &cell.series {
                let Some(y) = (self.value)(series) else { continue };
                match lines.iter_mut().find(|(name, _)| *name == series.system) {
                    Some((_, points)) => points.push((x, y)),
                    None => lines.push((series.system, vec![(x, y)])),
                }
            }
        }
        lines
    }

    fn fill<'a, X, Y>(
        &self,
        mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
        lines: &[Line],
    ) -> Result<()>
    where
        X: Ranged<ValueType = f64> + ValueFormatter<f64> + 'a,
        Y: Ranged<ValueType = f64> + ValueFormatter<f64> + 'a,
    {
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(failed)?;
        for (number, (name, points)) in lines.iter().enumerate() {
            let color = Palette99::pick(number).to_rgba();
            let line = LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3);
            let drawn = chart.draw_series(line).map_err(failed)?;
            drawn
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()
            .map_err(failed)
    }
}

/// A bar for each system of each cell, below each other.
fn bars(file: &str, title: &str, cells: &[&Cell], folder: &Path) -> Result<()> {
    let bars: Vec<_> = cells
        .iter()
        .flat_map(|cell| cell.series.iter().enumerate().map(move |(number, series)| (number, *cell, series)))
        .filter_map(|(number, cell, series)| {
            Some((number, cell, series, Spread::of(&series.samples)?.median))
        })
        .collect();
    let Some(largest) = bars.iter().map(|(.., median)| *median).max_by(f64::total_cmp) else { return Ok(()) };
    let path = folder.join(format!("{file}.svg"));
    let height = 22 * u32::try_from(bars.len())? + 60;
    let area = SVGBackend::new(&path, (SIZE.0, height)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    area.draw(&Text::new(title.to_owned(), (12, 12), ("sans-serif", 20).into_font())).map_err(failed)?;
    let mut y = 48;
    for (number, cell, series, median) in bars {
        bar(&area, y, number, &format!("{}: {}", cell.name, series.system), median, largest)?;
        y += 22;
    }
    area.present().map_err(failed)
}

fn bar(
    area: &DrawingArea<SVGBackend, Shift>,
    y: i32,
    number: usize,
    name: &str,
    value: f64,
    largest: f64,
) -> Result<()> {
    const LEFT: i32 = 430;
    const WIDTH: f64 = 400.0;
    let right = LEFT + (value / largest * WIDTH) as i32;
    let font = || ("sans-serif", 13).into_font();
    area.draw(&Text::new(name.to_owned(), (12, y), font())).map_err(failed)?;
    let color = Palette99::pick(number).filled();
    area.draw(&Rectangle::new([(LEFT, y), (right, y + 14)], color)).map_err(failed)?;
    area.draw(&Text::new(format!("{value:.0}"), (right + 6, y), font())).map_err(failed)
}

/// The ends of both axes; None without points.
fn bounds(points: &[(f64, f64)]) -> Option<((f64, f64), (f64, f64))> {
    let ends = |axis: fn(&(f64, f64)) -> f64| {
        Some(Spread::of(&points.iter().map(axis).collect::<Vec<_>>())?).map(|s| (s.min, s.max))
    };
    Some((ends(|point| point.0)?, ends(|point| point.1)?))
}

/// plotters' errors borrow from the backend.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw a plot: {error}")
}
