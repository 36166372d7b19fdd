//! The events that are appended: what each client appends next, to which stream.

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use uuid::Uuid;

use crate::case::{Append, Streams};

/// The type of every event that is appended, and of those in a filled log that a model takes.
pub const TAKEN: &str = "item_added";
/// The type of the others.
pub const OTHER: &str = "cart_viewed";
/// A client's own streams.
const OWN_STREAMS: u64 = 1_000;

/// One call: the events, the stream they go to, and the version it is at.
pub struct Call {
    pub stream: String,
    pub version: i64,
    pub events: Vec<NewEvent>,
}

/// A UUIDv7 each, as refold gives them: random ones would make the index of a peer slower.
pub struct NewEvent {
    pub id: Uuid,
    pub data: Value,
}

/// Where a client's calls come from; it goes on from round to round.
pub struct Source {
    client: usize,
    streams: Streams,
    events: usize,
    made: u64,
    versions: Vec<i64>,
    hot: Arc<AtomicI64>,
}

impl Source {
    /// One for each client.
    pub fn all(work: &Append) -> Vec<Self> {
        let hot = Arc::new(AtomicI64::new(0));
        (1..=work.clients)
            .map(|client| Self {
                client,
                streams: work.streams,
                events: work.events,
                made: 0,
                versions: vec![0; usize::try_from(OWN_STREAMS).unwrap_or_default()],
                hot: Arc::clone(&hot),
            })
            .collect()
    }

    pub fn next(&mut self) -> Call {
        let added = i64::try_from(self.events).unwrap_or_default();
        let client = self.client;
        self.made += 1;
        let (stream, version) = match self.streams {
            Streams::New => (format!("cart-{client}x{}", self.made), 0),
            Streams::Own => {
                let index = self.made % OWN_STREAMS;
                let version = usize::try_from(index).ok().and_then(|index| self.versions.get_mut(index));
                let before = version.map_or(0, |version| std::mem::replace(version, *version + added));
                (format!("cart-{client}x{index}"), before)
            }
            Streams::Hot => ("cart-hot".to_owned(), self.hot.fetch_add(added, Ordering::Relaxed)),
        };
        let first = self.made * self.events as u64;
        let events = (first..).take(self.events);
        Call { stream, version, events: events.map(event).collect() }
    }
}

fn event(number: u64) -> NewEvent {
    NewEvent { id: Uuid::now_v7(), data: data(number) }
}

fn data(number: u64) -> Value {
    json!({"sku": format!("sku-{}", number % 500), "quantity": number % 3 + 1, "price": 2.25})
}

/// The same as an SQL expression of the number `n`.
pub const DATA_SQL: &str =
    "jsonb_build_object('sku', 'sku-' || n % 500, 'quantity', n % 3 + 1, 'price', 2.25)";
