//! A read model's table: its columns and its primary key, as SQL text needs them.

use crate::error::{Error, Result};
use crate::pg::catalog::Catalog;
use crate::pg::{identity, spi};
use pgrx::pg_sys;

/// A column that is stored: neither dropped nor generated.
pub struct Column {
    /// Quoted.
    pub name: String,
    pub generated: bool,
}

/// A column of the primary key.
pub struct KeyColumn {
    /// Quoted.
    pub name: String,
    pub value_type: pg_sys::Oid,
    /// The equality of the key's index, as `OPERATOR(schema.=)`.
    pub equals: String,
}

/// A live table.
pub struct Table {
    pub relation: pg_sys::Oid,
    /// Its name alone, quoted: what the copy of a rebuild is called as well.
    pub name: String,
    /// Schema and name, quoted.
    pub qualified: String,
    pub row_type: pg_sys::Oid,
    pub columns: Vec<Column>,
    pub key: Vec<KeyColumn>,
}

const NAMES: &str = "SELECT quote_ident(c.relname), format('%I.%I', n.nspname, c.relname), c.reltype \
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = $1";

const COLUMNS: &str = "SELECT quote_ident(a.attname), a.attgenerated <> '' FROM pg_attribute AS a \
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Strategy 3 of a btree is equality.
const KEY: &str = "SELECT quote_ident(a.attname), a.atttypid, format('OPERATOR(%I.%s)', n.nspname, o.oprname) \
    FROM pg_index AS i \
    CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS k (attribute, class, ordinal) \
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attribute \
    JOIN pg_opclass AS c ON c.oid = k.class \
    JOIN pg_amop AS m ON m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype \
        AND m.amoprighttype = c.opcintype AND m.amopstrategy = 3 \
    JOIN pg_operator AS o ON o.oid = m.amopopr JOIN pg_namespace AS n ON n.oid = o.oprnamespace \
    WHERE i.indrelid = $1 AND i.indisprimary AND i.indimmediate AND k.ordinal <= i.indnkeyatts ORDER BY k.ordinal";

impl Table {
    /// Reads a table's definition; the caller holds a lock on it. 42P01 if it is gone, 55000 if it has lost its key.
    pub fn read(catalog: &Catalog, relation: pg_sys::Oid) -> Result<Self> {
        let args = [spi::arg(relation)];
        identity::as_refold_pinned(catalog.owner, || {
            let names = spi::query_once(NAMES, &args, spi::Snapshot::Latest, |rows| {
                if rows.len() == 0 {
                    return Err(Error::new(
                        pgrx::PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                        "the table of a projection does not exist any more",
                    )
                    .hint("Drop the projection with refold.drop_projection; refold.projections shows it as broken."));
                }
                Ok((rows.need(0, 0)?, rows.need::<String>(0, 1)?, rows.need(0, 2)?))
            })?;
            let columns = spi::query_once(COLUMNS, &args, spi::Snapshot::Latest, |rows| {
                (0..rows.len())
                    .map(|row| Ok(Column { name: rows.need(row, 0)?, generated: rows.need(row, 1)? }))
                    .collect::<Result<Vec<_>>>()
            })?;
            let key = spi::query_once(KEY, &args, spi::Snapshot::Latest, |rows| {
                (0..rows.len())
                    .map(|row| {
                        Ok(KeyColumn {
                            name: rows.need(row, 0)?,
                            value_type: rows.need(row, 1)?,
                            equals: rows.need(row, 2)?,
                        })
                    })
                    .collect::<Result<Vec<_>>>()
            })?;
            let (name, qualified, row_type) = names;
            if key.is_empty() {
                return Err(Error::wrong_state(format!("table {qualified} has no primary key"))
                    .hint("A read model's table needs a primary key that is not deferrable."));
            }
            Ok(Self { relation, name, qualified, row_type, columns, key })
        })
    }

    /// The columns that are written.
    pub fn stored(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.generated)
    }

    /// `a, b, c` of each stored column.
    pub fn list(&self, of: impl Fn(&str) -> String) -> String {
        self.stored().map(|column| of(&column.name)).collect::<Vec<_>>().join(", ")
    }

    /// `a = x, b = y` of each stored column.
    pub fn assign(&self, value: impl Fn(&str) -> String) -> String {
        self.list(|name| format!("{name} = {}", value(name)))
    }

    /// `x AND y` of each key column and its number from 0.
    pub fn on_key(&self, of: impl Fn(usize, &KeyColumn) -> String) -> String {
        self.key
            .iter()
            .enumerate()
            .map(|(number, column)| of(number, column))
            .collect::<Vec<_>>()
            .join(" AND ")
    }

    /// The key's columns, with commas.
    pub fn key_list(&self) -> String {
        self.key.iter().map(|column| column.name.clone()).collect::<Vec<_>>().join(", ")
    }
}

/// 55000 unless each table is what its bare name means on the current search_path: that is how the handler finds it.
/// Called as the projection's owner, with the handler's settings.
pub fn require_found_by_name(catalog: &Catalog, tables: &[pg_sys::Oid]) -> Result<()> {
    for &relation in tables {
        let table = Table::read(catalog, relation)?;
        const SQL: &str = "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid";
        let args = [spi::arg(table.name.as_str())];
        let found: Option<pg_sys::Oid> =
            spi::query_once(SQL, &args, spi::Snapshot::Latest, |rows| Ok(rows.get(0, 0)))?;
        if found != Some(relation) {
            return Err(Error::wrong_state(format!("the handler's name {} does not mean {}", table.name, table.qualified))
                .detail("A handler names its tables without a schema, as the search_path at the projection's creation finds them.")
                .hint("Create the projection with the table's schema first on the search_path; after a rename, drop and create it."));
        }
    }
    Ok(())
}
