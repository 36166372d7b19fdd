//! Whether a model equals the fold of the log, as one statement of plain SQL sees both: that is one snapshot. Nothing
//! here asks refold.

use anyhow::{Result, bail};
use postgres::{Client, GenericClient};

use crate::history;
use crate::session::Fault;
use crate::shared::Shared;

/// One projection and how to check it.
#[derive(Debug, PartialEq, Eq)]
pub struct Model {
    pub name: &'static str,
    /// The common table expressions `by_hand` and `kept`, each of (key, content), both text. They may use `v`, the
    /// version of the handler.
    comparison: &'static str,
    /// Which rows `e` of event_log concern the key $1.
    pub concerns: &'static str,
    /// Makes one row wrong.
    pub corrupt: &'static str,
}

const CART: Model = Model {
    name: "cart",
    comparison: include_str!("../sql/oracle/cart.sql"),
    concerns: "e.stream_id = $1",
    corrupt: "UPDATE cart SET items = items + 1 WHERE cart_id = (SELECT max(cart_id) FROM cart)",
};
const SKU_SALES: Model = Model {
    name: "sku_sales",
    comparison: include_str!("../sql/oracle/sku_sales.sql"),
    concerns: "e.data->>'sku' = $1 OR e.position::text = split_part($1, '/', 2)",
    corrupt: "UPDATE applied SET times = 2 WHERE position = (SELECT max(position) FROM applied)",
};
const SHELF: Model = Model {
    name: "shelf",
    comparison: include_str!("../sql/oracle/shelf.sql"),
    concerns: "e.data->>'sku' = $1",
    corrupt: "UPDATE shelf SET weighted = weighted - 1 WHERE sku = (SELECT max(sku) FROM shelf)",
};
const JOURNAL: Model = Model {
    name: "journal",
    comparison: include_str!("../sql/oracle/journal.sql"),
    concerns: "e.event_type = 'checked_out' AND e.position BETWEEN $1::text::bigint - 300 AND $1::text::bigint + 300",
    corrupt: "DELETE FROM journal WHERE position = (SELECT max(position) FROM journal)",
};
const BILL: Model = Model {
    name: "bill",
    comparison: include_str!("../sql/oracle/bill.sql"),
    concerns: "e.stream_id = split_part($1, '/', 1)",
    corrupt: "INSERT INTO bill VALUES ('nobody', 1, 1)",
};
const TALLY: Model = Model {
    name: "tally",
    comparison: include_str!("../sql/oracle/tally.sql"),
    concerns: "e.stream_id = $1",
    corrupt: "UPDATE tally SET last_type = 'none' WHERE stream_id = (SELECT max(stream_id) FROM tally)",
};

/// All models of a run on refold.
pub const MODELS: [Model; 6] = [CART, SKU_SALES, SHELF, JOURNAL, BILL, TALLY];
/// Those of the demo's shop, which the published protocol keeps, too.
pub const SHOP: [Model; 2] = [CART, SKU_SALES];

/// The models that one client looks at.
#[derive(Debug, Clone, Copy)]
pub struct Looks(&'static [Model]);

impl Looks {
    pub fn all() -> Self {
        Self(&MODELS)
    }

    pub fn of_the_shop() -> Self {
        Self(&SHOP)
    }

    /// The published protocol has but the shop.
    pub fn are_on_refold(self) -> bool {
        self.0.len() > SHOP.len()
    }

    pub fn pick(self, pick: usize) -> &'static Model {
        self.0.get(pick % self.0.len()).unwrap_or(&MODELS[0])
    }

    pub fn iter(self) -> impl Iterator<Item = &'static Model> {
        self.0.iter()
    }
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The snapshot knows no such projection.
    NoProjection,
    Exact {
        generation: i64,
    },
    Wrong(Vec<Difference>),
}

/// A row that only one side has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub version: i32,
    pub generation: i64,
    pub side: String,
    pub key: String,
    pub content: String,
}

/// Compares one model with the log.
pub fn compare(client: &mut impl GenericClient, model: &Model) -> Result<Found, postgres::Error> {
    let sql = format!(
        "WITH v AS MATERIALIZED (SELECT version, generation FROM model_version WHERE projection = '{}'),
         {},
         d AS (
             SELECT 'by hand' AS side, m.* FROM (TABLE by_hand EXCEPT ALL TABLE kept) m
             UNION ALL SELECT 'kept', s.* FROM (TABLE kept EXCEPT ALL TABLE by_hand) s
         )
         SELECT v.version, v.generation, d.side, d.key, d.content FROM v LEFT JOIN d ON true ORDER BY d.key LIMIT 20",
        model.name, model.comparison
    );
    let mut differences = Vec::new();
    let mut found = Found::NoProjection;
    for row in client.query(&sql, &[])? {
        let generation = row.try_get(1)?;
        found = Found::Exact { generation };
        if let Some(side) = row.try_get(2)? {
            let (version, key, content) = (row.try_get(0)?, row.try_get(3)?, row.try_get(4)?);
            differences.push(Difference { version, generation, side, key, content });
        }
    }
    Ok(if differences.is_empty() { found } else { Found::Wrong(differences) })
}

/// Compares one model with the log, counts the snapshot, and fails with the history of the first wrong row. Gives the
/// model's generation, if it exists.
pub fn look(client: &mut Client, model: &Model, shared: &Shared) -> Result<Option<i64>, Fault> {
    let found = compare(client, model)?;
    shared.stats.looked();
    match found {
        Found::NoProjection => Ok(None),
        Found::Exact { generation } => Ok(Some(generation)),
        Found::Wrong(differences) => Err(Fault::Broken(wrong(model, &differences, shared))),
    }
}

fn wrong(model: &Model, differences: &[Difference], shared: &Shared) -> anyhow::Error {
    let mut text = format!("a snapshot shows {} other than the fold of its events:", model.name);
    for Difference { version, generation, side, key, content } in differences {
        text.push_str(&format!(
            "\n  {side:<7} {key}: {content} (version {version}, generation {generation})"
        ));
    }
    if let Some(first) = differences.first() {
        match history::of_key(shared, model, &first.key) {
            Ok(history) => text.push_str(&history),
            Err(error) => text.push_str(&format!("\n  (its history cannot be had: {error:#})")),
        }
    }
    anyhow::anyhow!(text)
}

/// All models, where nothing goes on any more and no error is allowed.
pub fn require_all_exact(client: &mut Client, looks: Looks, shared: &Shared) -> Result<()> {
    for model in looks.iter() {
        if let Err(fault) = look(client, model, shared) {
            bail!(crate::session::certain::<()>(Err(fault)).err().unwrap_or_else(|| anyhow::anyhow!("?")));
        }
    }
    Ok(())
}
