//! Where the bulk of a fold is cut, so that parallel workers fold it: of a handler that is PARALLEL SAFE and not VOLATILE,
//! by streams.
//!
//! A part is a range of streams and has all of their events, so that each row is folded by one process in the events'
//! order (I6). PostgreSQL gives whole parts to its workers (Parallel Append). Statistics of the log tell how to cut it and
//! whether that is worthwhile. They need not be right: the cuts are put in the order by which the parts compare streams.

use crate::error::Result;
use crate::pg::catalog::Catalog;
use crate::pg::{identity, spi};
use crate::projection::check::Checked;

/// Of fewer events, workers take longer to start than they save.
const FEWEST: f64 = 100_000.0;
/// Where a smaller share of the log is taken, most of the time goes into passing over the rest, which each part may do.
const SPARSEST: f64 = 0.1;

const STATISTICS: &str = "SELECT \
      ARRAY(SELECT DISTINCT b.bound FROM pg_stats AS s \
        CROSS JOIN LATERAL unnest(s.histogram_bounds::text::text[]) AS b (bound) \
        WHERE s.schemaname = 'refold' AND s.tablename = 'event' AND s.attname = 'stream_id' AND NOT s.inherited \
        ORDER BY b.bound), \
      c.reltuples::float8, \
      CASE WHEN $1 IS NULL THEN 1 ELSE \
        (SELECT coalesce(sum(m.frequency), 0) FROM pg_stats AS s \
          CROSS JOIN LATERAL unnest(s.most_common_vals::text::text[], s.most_common_freqs) AS m (value, frequency) \
          WHERE s.schemaname = 'refold' AND s.tablename = 'event' AND s.attname = 'event_type' AND NOT s.inherited \
            AND m.value = ANY ($1)) END::float8, \
      current_setting('max_parallel_workers_per_gather')::int4 \
    FROM pg_class AS c WHERE c.oid = 'refold.event'::regclass";

/// The streams at which each part but the first begins, in order; none: the fold is better left in one piece.
pub fn cuts(catalog: &Catalog, checked: &Checked) -> Result<Vec<String>> {
    // Each part would have to compute the keys of all events.
    if !checked.handler.parallel_safe || checked.key.is_some() {
        return Ok(vec![]);
    }
    let args = [spi::arg(checked.projection.event_types.clone())];
    let (bounds, events, share, workers) = identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(STATISTICS, &args, spi::Snapshot::Latest, |rows| {
            Ok((rows.need::<Vec<String>>(0, 0)?, rows.need(0, 1)?, rows.need(0, 2)?, rows.need(0, 3)?))
        })
    })?;
    Ok(if worthwhile(events, share) { divide(&bounds, workers) } else { vec![] })
}

fn worthwhile(events: f64, share: f64) -> bool {
    events * share >= FEWEST && share >= SPARSEST
}

/// A part for each worker and one for the process that waits for them, of about as many events each: `bounds`, in order,
/// have equally many between them, the first and last being the least and the greatest.
fn divide(bounds: &[String], workers: i32) -> Vec<String> {
    let parts = usize::try_from(workers).unwrap_or(0) + 1;
    let inner = bounds.len().saturating_sub(1);
    let mut cuts: Vec<_> = (1..parts).filter_map(|part| bounds.get(part * inner / parts).cloned()).collect();
    cuts.dedup();
    cuts
}

#[cfg(test)]
mod tests {
    use super::{divide, worthwhile};

    fn bounds(names: &str) -> Vec<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn there_is_a_part_for_each_process() {
        assert_eq!(divide(&bounds("a b c d e f g"), 2), ["c", "e"]);
        assert_eq!(divide(&bounds("a b c d e"), 3), ["b", "c", "d"]);
        assert_eq!(divide(&bounds("a b c d e"), 0), [""; 0]);
    }

    #[test]
    fn few_bounds_make_few_parts() {
        assert_eq!(divide(&bounds("a b"), 7), ["a"]);
        assert_eq!(divide(&[], 2), [""; 0]);
    }

    #[test]
    fn a_sparse_or_short_log_is_left_in_one_piece() {
        assert!(worthwhile(1_000_000.0, 1.0));
        assert!(!worthwhile(90_000.0, 1.0));
        assert!(!worthwhile(1_000_000.0, 0.01));
        assert!(!worthwhile(-1.0, 1.0), "never analyzed");
    }
}
