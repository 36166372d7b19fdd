//! What is seen of a run while it goes on: a live view on a terminal, else a line every few seconds.

use console::{Term, style};
use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

use super::protocol::Progress;
use super::stats::Numbers;

/// Between two plain lines.
const PLAIN_PAUSE: Duration = Duration::from_secs(5);

pub struct View {
    title: &'static str,
    total: Duration,
    kind: Kind,
}

enum Kind {
    Live { time: ProgressBar, lines: [ProgressBar; 4] },
    Plain { next: Duration },
    Hidden,
}

impl View {
    pub fn open(title: &'static str, total: Duration, show: bool) -> Self {
        let kind = match (show, Term::stdout().is_term()) {
            (false, _) => Kind::Hidden,
            (true, true) => live(title, total),
            (true, false) => Kind::Plain { next: PLAIN_PAUSE },
        };
        Self { title, total, kind }
    }

    pub fn update(&mut self, elapsed: Duration, numbers: &Numbers) {
        let of = format!("{} of {} s", elapsed.min(self.total).as_secs(), self.total.as_secs());
        match &mut self.kind {
            Kind::Live { time, lines } => {
                time.set_position(u64::try_from(elapsed.min(self.total).as_millis()).unwrap_or(u64::MAX));
                time.set_message(of);
                for (line, text) in lines.iter().zip(texts(elapsed, numbers)) {
                    line.set_message(text);
                }
            }
            Kind::Plain { next } if elapsed >= *next => {
                *next = elapsed + PLAIN_PAUSE;
                println!("{}, {of}: {}", self.title, texts(elapsed, numbers).join("; "));
            }
            Kind::Plain { .. } | Kind::Hidden => {}
        }
    }

    /// Leaves the last numbers on the screen.
    pub fn close(self) {
        if let Kind::Live { time, lines } = self.kind {
            time.abandon();
            lines.iter().for_each(ProgressBar::abandon);
            println!();
        }
    }
}

fn live(title: &'static str, total: Duration) -> Kind {
    let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
    let time = screen.add(ProgressBar::new(u64::try_from(total.as_millis()).unwrap_or(u64::MAX)));
    time.set_style(style_of("{prefix} {wide_bar:.cyan/blue} {msg}"));
    time.set_prefix(style(title).bold().to_string());
    let line = || {
        let line = screen.add(ProgressBar::no_length());
        line.set_style(style_of("  {wide_msg}"));
        line
    };
    Kind::Live { time, lines: [line(), line(), line(), line()] }
}

/// The template is ours; should it not parse, the default is good enough.
fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn texts(elapsed: Duration, numbers: &Numbers) -> [String; 4] {
    let rebuilds = &numbers.rebuilds;
    let gave_up =
        if rebuilds.gave_up == 0 { String::new() } else { format!(", {} gave up", rebuilds.gave_up) };
    let gate = if rebuilds.longest_gate.is_zero() {
        String::new()
    } else {
        format!(
            ", longest gate {} in {} tries at most",
            millis(rebuilds.longest_gate),
            rebuilds.most_gate_attempts
        )
    };
    [
        format!(
            "{} appends, {}/s, p50 {}, p99 {}, longest {}",
            HumanCount(numbers.appends),
            HumanCount(per_second(numbers.appends, elapsed)),
            millis(numbers.p50),
            millis(numbers.p99),
            millis(numbers.longest)
        ),
        format!("{} rebuilds{gave_up}, longest {}{gate}", rebuilds.done, millis(rebuilds.longest)),
        format!(
            "{} slow, {} rolled back, {} retried; reader: {} looks, {} torn",
            numbers.slow, numbers.rolled_back, numbers.retries, numbers.looks, numbers.torn_looks
        ),
        numbers.progress.as_ref().map_or_else(|| "no rebuild".to_owned(), phase),
    ]
}

fn phase(progress: &Progress) -> String {
    let Progress { projection, phase, done, total } = progress;
    match (done, total) {
        (Some(done), Some(total)) => format!("{projection}: {phase}, {done} of {total}"),
        _ => format!("{projection}: {phase}"),
    }
}

pub fn per_second(count: u64, elapsed: Duration) -> u64 {
    (count as f64 / elapsed.as_secs_f64().max(0.001)).round() as u64
}

/// 0.42 ms, 17 ms, 1.3 s.
pub fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    match millis {
        ..10.0 => format!("{millis:.2} ms"),
        ..1000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(millis(Duration::from_micros(420)), "0.42 ms");
        assert_eq!(millis(Duration::from_millis(17)), "17 ms");
        assert_eq!(millis(Duration::from_millis(1300)), "1.3 s");
    }

    #[test]
    fn a_rate_of_no_time_is_no_division_by_zero() {
        assert_eq!(per_second(0, Duration::ZERO), 0);
        assert_eq!(per_second(30, Duration::from_secs(2)), 15);
    }
}
