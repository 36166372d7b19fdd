//! Plots of the cells, as SVG: a line for each system where a case has a size, bars where it has none.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;
use std::path::Path;

use crate::case::{Append, Case, During, Kind, Streams, short};
use crate::results::{Cell, Series, Spread};

const SIZE: (u32, u32) = (900, 480);

/// A chart of lines: which cells are in it, where on the x axis, and what the name of refold's line has after it.
struct Lines<'a> {
    file: &'a str,
    title: &'a str,
    x: &'a str,
    y: &'a str,
    is_logarithmic: bool,
    legend: SeriesLabelPosition,
    place: &'a dyn Fn(&Case) -> Option<(f64, &'static str)>,
}

/// One line of a chart.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

pub fn draw_all(cells: &[Cell], folder: &Path) -> Result<()> {
    for (file, title, streams, durable) in [
        ("append_new", "append one event, new streams", Streams::New, false),
        ("append_hot", "append one event, one hot stream", Streams::Hot, false),
        ("append_new_durable", "append one event, new streams, synchronous_commit = on", Streams::New, true),
    ] {
        let place = |case: &Case| match case {
            Case::Append(Append { clients, events: 1, streams: those, models: None, synchronous_commit })
                if *those == streams && *synchronous_commit == durable =>
            {
                Some((*clients as f64, ""))
            }
            _ => None,
        };
        let lines = Lines {
            file,
            title,
            x: "clients",
            y: "appends/s",
            is_logarithmic: false,
            legend: SeriesLabelPosition::UpperLeft,
            place: &place,
        };
        lines.draw(cells, folder)?;
    }
    for (file, kind, one_in) in [
        ("rebuild_fold", Kind::Fold, 1),
        ("rebuild_per_event", Kind::PerEvent, 1),
        ("rebuild_per_batch", Kind::PerBatch, 1),
        ("rebuild_fold_1_in_100", Kind::Fold, 100),
        ("rebuild_per_batch_1_in_100", Kind::PerBatch, 100),
    ] {
        let share = if one_in > 1 { format!(", one event in {one_in} taken") } else { String::new() };
        let title = format!("rebuild, {kind}{share}");
        let place = |case: &Case| match case {
            Case::Rebuild(work) if work.kind == kind && work.log.one_in == one_in => {
                Some((work.log.events as f64, ""))
            }
            _ => None,
        };
        let lines = Lines {
            file,
            title: &title,
            x: "events",
            y: "seconds",
            is_logarithmic: true,
            legend: SeriesLabelPosition::LowerRight,
            place: &place,
        };
        lines.draw(cells, folder)?;
    }
    let place = |case: &Case| match case {
        Case::Stall(work) => match work.during {
            During::Quiet => None,
            During::Atomic => Some((work.rows as f64, ", atomic")),
            During::Concurrent => Some((work.rows as f64, ", concurrent")),
        },
        _ => None,
    };
    let stalls = Lines {
        file: "stall",
        title: "longest append during a rebuild of 1M events",
        x: "rows of the model",
        y: "milliseconds",
        is_logarithmic: true,
        legend: SeriesLabelPosition::MiddleRight,
        place: &place,
    };
    stalls.draw(cells, folder)?;
    let bars_of = |file: &str, title: &str, is_in: &dyn Fn(&Case) -> bool| {
        bars(file, title, &cells.iter().filter(|cell| is_in(&cell.case)).collect::<Vec<_>>(), folder)
    };
    bars_of("append_with_models", "append one event with inline projections, appends/s", &|case| {
        matches!(case, Case::Append(Append { models: Some(_), synchronous_commit: false, .. }))
    })?;
    bars_of("append_many", "append several events at once, calls/s", &|case| {
        matches!(case, Case::Append(Append { events: 2.., synchronous_commit: false, .. }))
    })?;
    bars_of("read", "read a stream, streams/s", &|case| matches!(case, Case::Read(_)))
}

/// A system has the same color in every plot.
fn color(name: &str) -> RGBColor {
    match name {
        "refold, parallel workers" => RGBColor(240, 130, 90),
        "refold, concurrently" => RGBColor(170, 60, 120),
        "refold, no row differs" => RGBColor(225, 150, 160),
        name if name.starts_with("refold") => RGBColor(205, 40, 60),
        "bare SQL, one statement" => RGBColor(165, 165, 165),
        name if name.starts_with("bare SQL") => RGBColor(95, 95, 95),
        "Emmett" => RGBColor(45, 110, 190),
        "message-db" => RGBColor(60, 150, 90),
        _ => RGBColor(140, 90, 175),
    }
}

/// A number on an axis.
fn tick(value: &f64) -> String {
    if *value >= 1.0 { short(value.round() as u64) } else { value.to_string() }
}

impl Lines<'_> {
    fn draw(&self, cells: &[Cell], folder: &Path) -> Result<()> {
        let lines = self.lines(cells);
        let points: Vec<_> = lines.iter().flat_map(|line| line.points.iter().copied()).collect();
        let Some((x, y)) = bounds(&points) else { return Ok(()) };
        let path = folder.join(format!("{}.svg", self.file));
        let area = SVGBackend::new(&path, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area);
        chart.caption(self.title, ("sans-serif", 20)).margin(12).x_label_area_size(40).y_label_area_size(70);
        if self.is_logarithmic {
            let chart = chart
                .build_cartesian_2d((x.0 / 1.2..x.1 * 1.2).log_scale(), (y.0 / 2.0..y.1 * 2.0).log_scale());
            self.fill(chart.map_err(failed)?, &lines)?;
        } else {
            let chart = chart.build_cartesian_2d(0.0..x.1 * 1.05, 0.0..y.1 * 1.1);
            self.fill(chart.map_err(failed)?, &lines)?;
        }
        area.present().map_err(failed)
    }

    fn lines(&self, cells: &[Cell]) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for cell in cells {
            let Some((x, suffix)) = (self.place)(&cell.case) else { continue };
            for series in &cell.series {
                let Some(Spread { median, .. }) = Spread::of(&series.samples) else { continue };
                let suffix = if series.system.starts_with("refold") { suffix } else { "" };
                let name = format!("{}{suffix}", series.system);
                match lines.iter_mut().find(|line| line.name == name) {
                    Some(line) => line.points.push((x, median)),
                    None => lines.push(Line { name, points: vec![(x, median)] }),
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
            .x_label_formatter(&tick)
            .y_label_formatter(&tick)
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(failed)?;
        for Line { name, points } in lines {
            let color = color(name);
            let line = LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3);
            let drawn = chart.draw_series(line).map_err(failed)?;
            drawn
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(self.legend.clone())
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()
            .map_err(failed)
    }
}

const LINE: i32 = 22;

/// For each cell its name, and a bar for each system.
fn bars(file: &str, title: &str, cells: &[&Cell], folder: &Path) -> Result<()> {
    let median = |series: &Series| Some(Spread::of(&series.samples)?.median);
    let all = cells.iter().flat_map(|cell| &cell.series);
    let Some(largest) = all.filter_map(median).max_by(f64::total_cmp) else { return Ok(()) };
    let path = folder.join(format!("{file}.svg"));
    let lines: usize = cells.iter().map(|cell| cell.series.len() + 1).sum();
    let area = SVGBackend::new(&path, (SIZE.0, LINE as u32 * u32::try_from(lines)? + 60)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    area.draw(&Text::new(title.to_owned(), (12, 12), ("sans-serif", 20).into_font())).map_err(failed)?;
    let mut y = 48;
    for cell in cells {
        area.draw(&Text::new(cell.name.clone(), (12, y), ("sans-serif", 14).into_font())).map_err(failed)?;
        y += LINE;
        for series in &cell.series {
            bar(&area, y, series, median(series).unwrap_or_default() / largest)?;
            y += LINE;
        }
    }
    area.present().map_err(failed)
}

/// `share`: of the longest bar.
fn bar(area: &DrawingArea<SVGBackend, Shift>, y: i32, series: &Series, share: f64) -> Result<()> {
    const LEFT: i32 = 220;
    const WIDTH: f64 = 600.0;
    let right = LEFT + (share * WIDTH) as i32;
    let font = || ("sans-serif", 13).into_font();
    area.draw(&Text::new(series.system.clone(), (32, y), font())).map_err(failed)?;
    let color = color(&series.system).filled();
    area.draw(&Rectangle::new([(LEFT, y), (right, y + 14)], color)).map_err(failed)?;
    let value = Spread::of(&series.samples).map_or(0.0, |spread| spread.median);
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
