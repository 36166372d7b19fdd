//! How many positions the next transaction of a job replays: as many as take a certain time; and after an error fewer
//! and fewer, until one event is found that fails alone.

use crate::names::Position;
use std::time::Duration;

const FIRST_SPAN: i64 = 100;
const LARGEST_SPAN: i64 = 10_000_000;
/// The span changes by this factor at most from one batch to the next.
const STEEPEST: f64 = 4.0;

/// The size of the next batch.
#[derive(Debug)]
pub struct Batches {
    span: i64,
    /// The end of the last batch that has failed, while that is not reached.
    bad: Option<Position>,
}

impl Batches {
    pub fn new() -> Self {
        Self { span: FIRST_SPAN, bad: None }
    }

    /// The end of the batch that follows `checkpoint`.
    pub fn end(&self, checkpoint: Position, limit: Position) -> Position {
        let span = match self.bad {
            Some(bad) => self.span.min(((bad - checkpoint) / 2).max(1)),
            None => self.span,
        };
        limit.min(checkpoint.saturating_add(span))
    }

    /// The batch from `checkpoint` to `end` has taken `took` and should take `target`. One that was cut short tells only
    /// whether the span is too large.
    pub fn succeeded(&mut self, checkpoint: Position, end: Position, took: Duration, target: Duration) {
        let done = end - checkpoint;
        let factor = target.as_secs_f64() / took.as_secs_f64().max(1e-6);
        let fitting = ((done as f64 * factor.clamp(1.0 / STEEPEST, STEEPEST)) as i64).clamp(1, LARGEST_SPAN);
        self.span = if done >= self.span { fitting } else { self.span.min(fitting.max(done)) };
        if self.bad.is_some_and(|bad| end >= bad) {
            self.bad = None;
        }
    }

    /// The batch from `checkpoint` to `end` has failed; returns the position if that was a single one.
    pub fn failed(&mut self, checkpoint: Position, end: Position) -> Option<Position> {
        self.bad = Some(end);
        (end - checkpoint <= 1).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_follows_the_time() {
        let mut batches = Batches::new();
        let (fast, slow, target) =
            (Duration::from_millis(1), Duration::from_secs(60), Duration::from_millis(200));
        assert_eq!(batches.end(0, 1_000_000), 100);
        batches.succeeded(0, 100, fast, target);
        assert_eq!(batches.end(100, 1_000_000), 500);
        // Cut short: a fast one tells nothing, a slow one something.
        batches.succeeded(100, 110, fast, target);
        assert_eq!(batches.end(100, 1_000_000), 140);
        for _ in 0..20 {
            let end = batches.end(5000, 1_000_000);
            batches.succeeded(5000, end, slow, target);
        }
        assert_eq!(batches.end(5000, 1_000_000), 5001);
        assert_eq!(batches.end(5000, 5000), 5000);
    }

    #[test]
    fn one_bad_event_is_found() {
        for bad in [1, 2, 700, 999, 1000] {
            let mut batches = Batches::new();
            let (mut checkpoint, mut tries) = (0, 0);
            let found = loop {
                tries += 1;
                assert!(tries < 100);
                let end = batches.end(checkpoint, 1000);
                if end >= bad {
                    if let Some(found) = batches.failed(checkpoint, end) {
                        break found;
                    }
                } else {
                    batches.succeeded(
                        checkpoint,
                        end,
                        Duration::from_millis(200),
                        Duration::from_millis(200),
                    );
                    checkpoint = end;
                }
            };
            assert_eq!(found, bad);
        }
    }

    #[test]
    fn a_batch_that_fails_only_as_a_whole_is_passed_in_parts() {
        let mut batches = Batches::new();
        assert_eq!(batches.failed(0, 4), None);
        let (mut checkpoint, time) = (0, Duration::from_millis(200));
        while checkpoint < 4 {
            let end = batches.end(checkpoint, 1000);
            batches.succeeded(checkpoint, end, time, time);
            checkpoint = end;
        }
        assert_eq!(checkpoint, 4);
        assert!(batches.end(4, 100_000) <= 104);
    }
}
