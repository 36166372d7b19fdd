//! Windows of positions whose events fit in memory, for a fold's tail.

use crate::error::Result;
use crate::names::Position;
use crate::pg::spi;

/// Most events that are in memory at once.
pub const LARGEST_BATCH: i64 = 10_000;
const LARGEST_SPAN: i64 = 1_000_000;

/// Where a replay by windows is, and how many positions it looks at next: more where few of the events are wanted.
pub struct Window {
    pub after: Position,
    span: i64,
}

impl Window {
    pub fn new(after: Position) -> Self {
        Self { after, span: LARGEST_BATCH }
    }

    /// The last position of the next window, and how many events it has: as many as half of work_mem holds, at least
    /// one. Looks at the window's own positions only, so that the cost stays linear whatever the planner knows. `wanted`
    /// is the condition on the log's rows `e` after one position and up to another.
    pub fn next(
        &mut self,
        up_to: Position,
        wanted: impl FnOnce(Position, Position) -> String,
        snapshot: spi::Snapshot,
    ) -> Result<(Position, i64)> {
        let end = up_to.min(self.after.saturating_add(self.span));
        let sql = format!(
            "SELECT count(*), count(*) FILTER (WHERE q.fits), max(q.position) FILTER (WHERE q.fits) FROM (\
               SELECT e.position, row_number() OVER w = 1 OR (row_number() OVER w <= {LARGEST_BATCH} \
                 AND sum(pg_column_size(e.data) + pg_column_size(e.metadata) + 200) OVER w \
                   <= pg_size_bytes(current_setting('work_mem')) / 2) AS fits \
               FROM refold.event AS e WHERE {} WINDOW w AS (ORDER BY e.position)\
             ) AS q",
            wanted(self.after, end)
        );
        let plan = spi::Plan::prepare(&sql, &[])?;
        let (all, fitting, last) = spi::query(&plan, &[], snapshot, None, |rows| {
            Ok((rows.need::<i64>(0, 0)?, rows.need::<i64>(0, 1)?, rows.get::<Position>(0, 2)))
        })?;
        Ok(match last {
            Some(last) if fitting < all => {
                self.span = (self.span / 2).max(LARGEST_BATCH);
                (last, fitting)
            }
            _ => {
                if all < LARGEST_BATCH / 2 {
                    self.span = (self.span * 2).min(LARGEST_SPAN);
                }
                (end, all)
            }
        })
    }
}
