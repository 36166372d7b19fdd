//! The statements that fold many events at once: PostgreSQL sorts, spills, groups and joins.

use super::destination::Destination;
use super::replay::Share;
use crate::pg::spi;
use crate::projection::check::Checked;
use crate::projection::fold::state_of;
use crate::projection::table::Table;

/// One fold's statements. `wanted` is a condition on the log's rows `e`.
pub struct FoldSql<'a> {
    pub checked: &'a Checked,
    pub to: &'a Destination,
    pub table: &'a Table,
    /// Which keys; `None`: all.
    pub share: Option<Share>,
}

impl FoldSql<'_> {
    /// CREATE TABLE AS: one row for each key, which the handler as an aggregate makes of the key's events in order. With
    /// literals, for that key only. A stream's events are in order by version too, and so come out of an index unsorted;
    /// the aggregate fails if they do not (I6).
    pub fn create(&self, wanted: &str, only: Option<&[String]>) -> String {
        let of_key = |literals: &[String]| {
            format!(
                " AND {}",
                self.table.on_key(|n, column| format!(
                    "r.{} {} {}",
                    self.keys()[n],
                    column.equals,
                    literals[n]
                ))
            )
        };
        let (by_version, by_position) = match self.checked.key {
            None => (" ORDER BY e.stream_id, e.stream_version", ""),
            Some(_) => ("", " ORDER BY (r.e).position"),
        };
        let folded = format!(
            "SELECT refold._fold(NULL::{row}, r.e{by_position}) AS s, {grouped} FROM ({keyed}{by_version}) AS r \
             WHERE {present}{only} GROUP BY {grouped}",
            row = self.table.qualified,
            grouped = self.grouped(),
            keyed = self.keyed(wanted),
            present = self.present(),
            only = only.map(of_key).unwrap_or_default(),
        );
        self.create_as(&folded, &format!("{} AND q.s IS DISTINCT FROM NULL", self.sound()))
    }

    /// The same in parts, each a range of streams that begins where the one before ends: PostgreSQL gives them to parallel
    /// workers. The events of each row are counted here, where there is a replay to count for; OFFSET keeps that out of
    /// the parts.
    pub fn create_in_parts(&self, wanted: &str, cuts: &[String]) -> String {
        let cuts: Vec<_> = cuts.iter().map(|cut| spi::literal(cut)).collect();
        let part = |number: usize| {
            let from = number.checked_sub(1).and_then(|before| cuts.get(before));
            let from = from.map(|cut| format!(" AND e.stream_id OPERATOR(pg_catalog.>=) {cut}"));
            let to = cuts.get(number).map(|cut| format!(" AND e.stream_id OPERATOR(pg_catalog.<) {cut}"));
            format!(
                "SELECT refold._fold_part(NULL::{row}, r.e, {handler}, {name}) AS s, pg_catalog.count(*) AS n, r.k1 \
                 FROM ({keyed}{from}{to} ORDER BY e.stream_id, e.stream_version) AS r GROUP BY r.k1",
                row = self.table.qualified,
                handler = self.checked.handler.oid.to_u32(),
                name = spi::literal(&self.checked.projection.name),
                keyed = self.keyed(wanted),
                from = from.unwrap_or_default(),
                to = to.unwrap_or_default(),
            )
        };
        let parts = (0..=cuts.len()).map(part).collect::<Vec<_>>().join(" UNION ALL ");
        let kept = format!(
            "CASE WHEN refold._count_part(q.n) AND {} THEN q.s IS DISTINCT FROM NULL END",
            self.sound()
        );
        self.create_as(&format!("{parts} OFFSET 0"), &kept)
    }

    /// The copy, of the rows `s` that `folded` yields with their keys, and of which `kept` holds.
    fn create_as(&self, folded: &str, kept: &str) -> String {
        format!(
            "CREATE UNLOGGED TABLE {to} AS SELECT {columns} FROM ({folded}) AS q WHERE {kept}",
            to = self.to.of(self.table),
            columns = self.table.list(|name| format!("(q.s).{name} AS {name}")),
        )
    }

    /// Folds the events into the rows that are there: each key's row goes in as the aggregate's first state.
    pub fn upsert(&self, wanted: &str) -> String {
        let (table, keys) = (self.table, self.keys());
        let row_of = |alias: &str| {
            table.on_key(|n, column| format!("t.{} {} {alias}.{}", column.name, column.equals, keys[n]))
        };
        format!(
            "WITH folded AS MATERIALIZED (SELECT q.* FROM (\
               SELECT refold._fold(r.state, r.e ORDER BY (r.e).position) AS s, {grouped} FROM (\
                 SELECT r.*, CASE WHEN t.{first} IS NOT NULL THEN {state} END AS state \
                 FROM ({keyed}) AS r LEFT JOIN ONLY {to} AS t ON {row_of_event}\
               ) AS r WHERE {present} GROUP BY {grouped}\
             ) AS q WHERE {sound}), \
             gone AS (DELETE FROM ONLY {to} AS t USING folded AS q WHERE NOT q.s IS DISTINCT FROM NULL AND {row_of_folded}) \
             INSERT INTO {to} AS t ({columns}) SELECT {values} FROM folded AS q WHERE q.s IS DISTINCT FROM NULL \
             ON CONFLICT ({key}) DO UPDATE SET {assignments}",
            grouped = self.grouped(),
            first = table.key[0].name,
            state = state_of(table, "t"),
            keyed = self.keyed(wanted),
            to = self.to.of(table),
            row_of_event = row_of("r"),
            present = self.present(),
            sound = self.sound(),
            row_of_folded = row_of("q"),
            columns = table.list(str::to_owned),
            values = table.list(|name| format!("(q.s).{name}")),
            key = table.key_list(),
            assignments = table.assign(|name| format!("excluded.{name}")),
        )
    }

    fn keys(&self) -> Vec<String> {
        (1..=self.table.key.len()).map(|n| format!("k{n}")).collect()
    }

    /// The wanted events with their keys.
    fn keyed(&self, wanted: &str) -> String {
        let keys = self.keys();
        match &self.checked.key {
            None => format!("SELECT e, e.stream_id AS k1 FROM refold.event AS e WHERE {wanted}"),
            Some(key) if keys.len() == 1 => {
                format!("SELECT e, {}(e) AS k1 FROM refold.event AS e WHERE {wanted} OFFSET 0", key.qualified)
            }
            Some(key) => format!(
                "SELECT e, k.* FROM refold.event AS e CROSS JOIN LATERAL {}(e) AS k ({}) WHERE {wanted}",
                key.qualified,
                keys.join(", ")
            ),
        }
    }

    fn grouped(&self) -> String {
        self.keys().iter().map(|key| format!("r.{key}")).collect::<Vec<_>>().join(", ")
    }

    /// The event has a key: it is for this projection. And the key is one of this share.
    fn present(&self) -> String {
        let mut conditions = vec!["true".to_owned()];
        // A stream's name is never null.
        if self.checked.key.is_some() {
            conditions.extend(self.keys().iter().map(|key| format!("r.{key} IS NOT NULL")));
        }
        if let Some(Share { part, parts }) = self.share {
            conditions.push(format!(
                "pg_catalog.mod(pg_catalog.hash_record_extended(ROW({}), 1) OPERATOR(pg_catalog.&) 1073741823, {parts}) \
                 OPERATOR(pg_catalog.=) {part}",
                self.grouped()
            ));
        }
        conditions.join(" AND ")
    }

    /// The handler has returned the row of its event's key, or none; it fails otherwise.
    fn sound(&self) -> String {
        let keys = self.keys();
        let same_key =
            self.table.on_key(|n, column| format!("(q.s).{} {} q.{}", column.name, column.equals, keys[n]));
        format!(
            "CASE WHEN NOT q.s IS DISTINCT FROM NULL OR ({same_key}) THEN true ELSE refold._fail_key({}) END",
            spi::literal(&self.checked.projection.name)
        )
    }
}
