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
const RECEIPT: Model = Model {
    name: "receipt",
    comparison: include_str!("../sql/oracle/receipt.sql"),
    concerns: "e.stream_id = $1",
    corrupt: "UPDATE receipt SET paid = NOT paid WHERE stream_id = (SELECT min(stream_id) FROM receipt)",
};
const TALLY: Model = Model {
    name: "tally",
    comparison: include_str!("../sql/oracle/tally.sql"),
    concerns: "e.stream_id = $1",
    corrupt: "UPDATE tally SET last_type = 'none' WHERE stream_id = (SELECT max(stream_id) FROM tally)",
};

/// All models of a run on refold.
pub const MODELS: [Model; 7] = [CART, SKU_SALES, SHELF, JOURNAL, BILL, RECEIPT, TALLY];
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

/// One model that the tables may show: which of the registry's answers it is, the version of its handler, and where the
/// events end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub mode: String,
    what: i32,
    version: Option<i32>,
    cut: Option<i64>,
}

impl Shown {
    /// Whether it is another than the one that the snapshot's registry names.
    pub fn is_other(&self) -> bool {
        self.what == 2
    }
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The snapshot knows no such projection.
    NoProjection,
    /// The tables equal these models: more than one only where those are equal.
    Exact {
        generation: i64,
        shown: Vec<Shown>,
    },
    /// The snapshot does not tell what the tables should show.
    Unlabelled {
        generation: i64,
    },
    Wrong(Vec<Difference>),
}

/// A row that only one side has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub shown: Shown,
    pub generation: i64,
    pub side: String,
    pub key: String,
    pub content: String,
}

/// Compares one model with the log.
pub fn compare(client: &mut impl GenericClient, model: &Model) -> Result<Found, postgres::Error> {
    let sql = format!(
        "SELECT c.generation, c.mode, c.what, c.version, c.cut, d.side, d.key, d.content
         FROM (SELECT * FROM model_version WHERE projection = '{}') c LEFT JOIN LATERAL (
             WITH v AS MATERIALIZED (SELECT c.version),
             event_log AS MATERIALIZED (
                 SELECT * FROM labelled_log l
                 WHERE (c.cut IS NULL OR l.position <= c.cut) AND (c.horizon IS NULL OR l.horizon <= c.horizon)
                     AND NOT EXISTS (SELECT FROM left_out o WHERE o.projection = '{}' AND o.position = l.position
                                     AND o.generation < c.built)
             ),
             {},
             d AS (
                 SELECT 'by hand' AS side, m.* FROM (TABLE by_hand EXCEPT ALL TABLE kept) m
                 UNION ALL SELECT 'kept', s.* FROM (TABLE kept EXCEPT ALL TABLE by_hand) s
             )
             SELECT * FROM d ORDER BY key LIMIT 20
         ) d ON c.version IS NOT NULL
         ORDER BY c.what, d.key",
        model.name, model.name, model.comparison
    );
    let (mut shown, mut differences, mut known) = (Vec::new(), Vec::new(), None);
    for row in client.query(&sql, &[])? {
        let generation = row.try_get(0)?;
        let one = Shown {
            mode: row.try_get(1)?,
            what: row.try_get(2)?,
            version: row.try_get(3)?,
            cut: row.try_get(4)?,
        };
        known = Some(generation);
        match row.try_get(5)? {
            Some(side) => {
                let (key, content) = (row.try_get(6)?, row.try_get(7)?);
                differences.push(Difference { shown: one, generation, side, key, content });
            }
            None => shown.push(one),
        }
    }
    let Some(generation) = known else { return Ok(Found::NoProjection) };
    let unlabelled = shown.iter().any(|one| one.version.is_none());
    shown.retain(|one| one.version.is_some());
    Ok(match (shown.is_empty(), unlabelled) {
        (false, _) => Found::Exact { generation, shown },
        (true, true) => Found::Unlabelled { generation },
        (true, false) => Found::Wrong(differences),
    })
}

/// A model as one look saw it: its generation, and what it equals, if that can be told.
pub type Seen = Option<(i64, Vec<Shown>)>;

/// Compares one model with the log, counts the snapshot, and fails with the history of the first wrong row.
pub fn look(client: &mut Client, model: &Model, shared: &Shared) -> Result<Seen, Fault> {
    let found = compare(client, model)?;
    shared.stats.looked();
    match found {
        Found::NoProjection => Ok(None),
        Found::Exact { generation, shown } => {
            if let [one, rest @ ..] = &shown[..] {
                if one.mode != "active" {
                    shared.stats.count_deed(&format!("looks while {}", one.mode));
                }
                if rest.is_empty() && one.is_other() {
                    shared.stats.count_deed("looks at the other handler's model");
                }
            }
            Ok(Some((generation, shown)))
        }
        Found::Unlabelled { generation } => {
            shared.stats.count_deed("looks that tell nothing");
            Ok(Some((generation, Vec::new())))
        }
        Found::Wrong(differences) => Err(Fault::Broken(wrong(model, &differences, shared))),
    }
}

fn wrong(model: &Model, differences: &[Difference], shared: &Shared) -> anyhow::Error {
    let mut text = format!("a snapshot shows {} other than the fold of its events:", model.name);
    for Difference { shown: Shown { mode, what, version, cut }, generation, side, key, content } in
        differences
    {
        let version = version.unwrap_or_default();
        let up_to = cut.map(|cut| format!(", up to {cut}")).unwrap_or_default();
        text.push_str(&format!(
            "\n  {side:<7} {key}: {content} ({mode}, answer {what}: version {version}{up_to}; generation {generation})"
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
