//! Which tables may exchange their storage with a shadow's.

use super::definition::PLACEHOLDER;
use crate::error::{Error, Result};
use crate::pg::catalog::Catalog;
use crate::pg::{identity, spi};
use pgrx::pg_sys;

/// A condition on the table `c`, and why it rules a swap out.
struct Refusal {
    when: &'static str,
    why: &'static str,
    hint: &'static str,
}

const ATOMICALLY: &str = "Use refold.rebuild_projection, which changes the table by ordinary statements.";

const REFUSALS: [Refusal; 10] = [
    Refusal {
        when: "c.relkind <> 'r' OR c.relispartition OR EXISTS (SELECT FROM pg_inherits AS i WHERE c.oid IN (i.inhrelid, i.inhparent))",
        why: "It is not an ordinary table, or has parents or children.",
        hint: "Use a table without partitions and inheritance.",
    },
    Refusal {
        when: "c.relpersistence <> 'p'",
        why: "It is temporary or unlogged: a crash would empty it.",
        hint: "Use a permanent table.",
    },
    Refusal {
        when: "c.relam <> (SELECT m.oid FROM pg_am AS m WHERE m.amname = 'heap')",
        why: "Its access method is not heap.",
        hint: ATOMICALLY,
    },
    Refusal {
        when: "EXISTS (SELECT FROM pg_publication AS p WHERE p.puballtables) \
            OR EXISTS (SELECT FROM pg_publication_rel AS p WHERE p.prrelid = c.oid) \
            OR EXISTS (SELECT FROM pg_publication_namespace AS p WHERE p.pnnspid = c.relnamespace)",
        why: "It is published, and a swap is not replicated.",
        hint: ATOMICALLY,
    },
    Refusal {
        when: "EXISTS (SELECT FROM pg_constraint AS f WHERE f.confrelid = c.oid AND f.contype = 'f')",
        why: "It is referenced by a foreign key, which a swap does not check.",
        hint: ATOMICALLY,
    },
    Refusal {
        when: "EXISTS (SELECT FROM pg_constraint AS f WHERE f.conrelid = c.oid AND f.contype = 'f')",
        why: "It has a foreign key, which a swap does not check.",
        hint: ATOMICALLY,
    },
    Refusal {
        when: "EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attidentity <> '')",
        why: "It has an identity column.",
        hint: "Let the handler number rows by what the events say, such as event.position.",
    },
    Refusal {
        // -6 is tableoid.
        when: "EXISTS (SELECT FROM pg_attrdef AS d WHERE d.adrelid = c.oid AND d.adbin::text LIKE '%:varattno -6 %') \
            OR EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.conbin::text LIKE '%:varattno -6 %')",
        why: "A check or a generated column uses tableoid, which is another one in the shadow.",
        hint: ATOMICALLY,
    },
    Refusal {
        when: "EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid \
            AND NOT (i.indisvalid AND i.indisready AND i.indislive))",
        why: "It has an invalid index.",
        hint: "Use REINDEX INDEX, or drop it.",
    },
    Refusal {
        when: "EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attisdropped AND (PLACEHOLDER) IS NULL)",
        why: "It has a dropped column of a type that no built-in type is laid out like.",
        hint: ATOMICALLY,
    },
];

/// 0A000 with the reason unless the table may exchange its storage.
pub fn require_swappable(catalog: &Catalog, relation: pg_sys::Oid) -> Result<()> {
    let conditions: Vec<_> =
        REFUSALS.iter().map(|refusal| refusal.when.replace("PLACEHOLDER", PLACEHOLDER)).collect();
    let sql = format!(
        "SELECT format('%I.%I', n.nspname, c.relname), array_position(ARRAY[{}], true) \
         FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = $1",
        conditions.join(", ")
    );
    let (name, first): (String, Option<i32>) = identity::as_refold_pinned(catalog.owner, || {
        spi::query_once(&sql, &[spi::arg(relation)], spi::Snapshot::Latest, |rows| {
            Ok((rows.need(0, 0)?, rows.get(0, 1)))
        })
    })?;
    match first.and_then(|first| REFUSALS.get(first as usize - 1)) {
        None => Ok(()),
        Some(refusal) => Err(Error::unsupported(format!("table {name} cannot be rebuilt by a swap"))
            .detail(refusal.why)
            .hint(refusal.hint)),
    }
}
