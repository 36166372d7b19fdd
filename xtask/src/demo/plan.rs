//! What a client of the shop does next, drawn from its own seeded generator: the same seed gives the same plans,
//! whatever store they are run on. Knows nothing of PostgreSQL.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

const CARTS: u32 = 500;
const SKUS: u32 = 200;

/// One event to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub stream_id: String,
    pub event_type: &'static str,
    /// JSON text.
    pub data: String,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Commit,
    Rollback,
}

/// One transaction of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub drafts: Vec<Draft>,
    /// How long the transaction stays open after its last append.
    pub hold: Option<Duration>,
    pub end: End,
    /// How long the client thinks before.
    pub think: Duration,
}

impl Plan {
    /// One statement does it: no BEGIN and COMMIT around it.
    pub fn is_single_statement(&self) -> bool {
        self.drafts.len() == 1 && self.hold.is_none() && self.end == End::Commit
    }
}

/// Draws the plans of one client.
pub struct Planner {
    rng: StdRng,
}

impl Planner {
    pub fn new(seed: u64, client: u64) -> Self {
        // Any odd factor keeps clients of neighbouring seeds apart.
        Self { rng: StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(client)) }
    }

    /// One transaction in 100 is slow, three are rolled back, ten append several events to their cart.
    pub fn next_plan(&mut self) -> Plan {
        let cart = format!("cart-{}", self.rng.random_range(1..=CARTS));
        let count = if self.rng.random_bool(0.10) { self.rng.random_range(2..=5) } else { 1 };
        let mut skus: Vec<u32> = (0..count).map(|_| self.rng.random_range(1..=SKUS)).collect();
        // In order, so that two carts that sell the same goods do not deadlock on their totals.
        skus.sort_unstable();
        let drafts = skus.into_iter().map(|sku| self.draft(&cart, &format!("sku-{sku}"))).collect();
        let hold = self.rng.random_bool(0.01).then(|| Duration::from_millis(self.rng.random_range(50..=300)));
        let end = if self.rng.random_bool(0.03) { End::Rollback } else { End::Commit };
        let think = Duration::from_micros(self.rng.random_range(0..=1500));
        Plan { drafts, hold, end, think }
    }

    /// An append of the straggler, to a cart and of goods that nobody else touches.
    pub fn next_straggler(&mut self) -> Draft {
        Draft {
            stream_id: "cart-straggler".to_owned(),
            event_type: "item_added",
            data: format!(r#"{{"sku":"sku-straggler","qty":1,"price":{}}}"#, self.rng.random_range(1..=99)),
        }
    }

    /// A pause of the straggler.
    pub fn next_pause(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(100..=700))
    }

    fn draft(&mut self, cart: &str, sku: &str) -> Draft {
        let (event_type, data) = match self.rng.random_range(0..100) {
            0..70 => ("item_added", self.item(sku)),
            70..85 => ("item_removed", self.item(sku)),
            85..93 => ("voucher_given", format!(r#"{{"amount":{}}}"#, self.rng.random_range(50..=500))),
            _ => ("checked_out", "{}".to_owned()),
        };
        Draft { stream_id: cart.to_owned(), event_type, data }
    }

    fn item(&mut self, sku: &str) -> String {
        let (qty, price) = (self.rng.random_range(1..=5), self.rng.random_range(99..=9999));
        format!(r#"{{"sku":"{sku}","qty":{qty},"price":{price}}}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(seed: u64, client: u64, count: usize) -> Vec<Plan> {
        let mut planner = Planner::new(seed, client);
        (0..count).map(|_| planner.next_plan()).collect()
    }

    #[test]
    fn a_seed_repeats_its_plans() {
        assert_eq!(plans(7, 1, 200), plans(7, 1, 200));
        assert_ne!(plans(7, 1, 200), plans(7, 2, 200));
        assert_ne!(plans(7, 1, 200), plans(8, 1, 200));
    }

    #[test]
    fn every_kind_of_transaction_comes_up() {
        let plans = plans(1, 0, 2000);
        assert!(plans.iter().any(|plan| plan.hold.is_some()));
        assert!(plans.iter().any(|plan| plan.end == End::Rollback));
        assert!(plans.iter().any(|plan| plan.drafts.len() > 1));
        for event_type in ["item_added", "item_removed", "voucher_given", "checked_out"] {
            assert!(plans.iter().flat_map(|plan| &plan.drafts).any(|draft| draft.event_type == event_type));
        }
    }

    #[test]
    fn a_transaction_stays_with_its_cart() {
        for plan in plans(3, 0, 500) {
            assert!(plan.drafts.windows(2).all(|pair| pair[0].stream_id == pair[1].stream_id));
        }
    }
}
