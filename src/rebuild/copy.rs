//! The tables that a rebuild fills: copies of the live ones in a schema of their own, gone when the rebuild ends.

use crate::error::Result;
use crate::pg::catalog::Catalog;
use crate::pg::identity::{self, Settings};
use crate::pg::{process, spi};
use crate::projection::registry::{Kind, Projection};
use crate::projection::table::Table;
use pgrx::pg_sys;

/// The copies of one projection's tables.
pub struct Copy {
    /// The schema that holds them, quoted.
    pub schema: String,
    /// The live tables, in their projection's order.
    pub tables: Vec<Table>,
    /// The handler's settings; for one that writes for itself with the copies' schema first on the search_path. A fold
    /// writes nothing, and its `::T` must go on meaning the live table's row type.
    pub settings: Settings,
}

impl Copy {
    /// Makes the schema; and the tables, empty and with all keys, indexes and checks, for a handler that writes for
    /// itself. A fold's table is made by its replay.
    pub fn create(catalog: &Catalog, projection: &Projection) -> Result<Self> {
        let schema = format!("refold_copy_{}", process::id());
        let tables =
            projection.tables.iter().map(|&table| Table::read(catalog, table)).collect::<Result<Vec<_>>>()?;
        let mut settings = projection.settings.clone();
        if projection.kind != Kind::Fold {
            settings.search_path = format!("{schema}, {}", settings.search_path);
        }
        let owner = identity::name_of(projection.owner);
        identity::as_refold(catalog.owner, || {
            spi::command(&format!("CREATE SCHEMA {schema} AUTHORIZATION {owner}"))
        })?;
        let copy = Self { schema, tables, settings };
        identity::as_owner(projection.owner, &copy.settings, || match projection.kind {
            Kind::Fold => copy.create_aggregate(),
            Kind::PerEvent | Kind::PerBatch => copy.create_tables(),
        })?;
        Ok(copy)
    }

    /// A table's copy, schema and name.
    pub fn of(&self, table: &Table) -> String {
        format!("{}.{}", self.schema, table.name)
    }

    /// The fold's replay is an aggregate, so that PostgreSQL sorts, spills and groups.
    fn create_aggregate(&self) -> Result<()> {
        for table in &self.tables {
            let sql = format!(
                "CREATE AGGREGATE {}.fold(refold.event) (SFUNC = refold._fold_step, STYPE = {})",
                self.schema, table.qualified
            );
            spi::command(&sql)?;
        }
        Ok(())
    }

    fn create_tables(&self) -> Result<()> {
        for table in &self.tables {
            let sql = format!(
                "CREATE UNLOGGED TABLE {} (LIKE {} INCLUDING ALL EXCLUDING IDENTITY EXCLUDING STATISTICS \
                 EXCLUDING COMMENTS)",
                self.of(table),
                table.qualified
            );
            spi::command(&sql)?;
            for (column, sequence) in identity_sequences(table.relation)? {
                let sql = format!(
                    "ALTER TABLE {} ALTER {column} SET DEFAULT pg_catalog.nextval({sequence}::pg_catalog.regclass)",
                    self.of(table)
                );
                spi::command(&sql)?;
            }
        }
        Ok(())
    }

    /// Gives a fold's filled table its key.
    pub fn add_keys(&self) -> Result<()> {
        for table in &self.tables {
            spi::command(&format!("ALTER TABLE {} ADD PRIMARY KEY ({})", self.of(table), table.key_list()))?;
        }
        Ok(())
    }

    /// Collects statistics, so that plans made while the copies were empty are made again.
    pub fn analyze(&self) -> Result<()> {
        for table in &self.tables {
            spi::command(&format!("ANALYZE {}", self.of(table)))?;
        }
        Ok(())
    }

    /// Removes the schema and what it holds.
    pub fn drop(&self, catalog: &Catalog) -> Result<()> {
        identity::as_refold_quiet(catalog.owner, || {
            spi::command(&format!("DROP SCHEMA {} CASCADE", self.schema))
        })?;
        Ok(())
    }
}

/// The identity columns of a table and the sequences they draw from, quoted as name and as literal: the copy draws
/// from the live table's own, so that the ids it deals out stay free there.
fn identity_sequences(table: pg_sys::Oid) -> Result<Vec<(String, String)>> {
    const SQL: &str = "SELECT pg_catalog.quote_ident(a.attname), pg_catalog.quote_literal( \
          pg_catalog.format('%I.%I', n.nspname, s.relname)) \
        FROM pg_catalog.pg_attribute AS a \
        JOIN pg_catalog.pg_depend AS d ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
          AND d.refobjid OPERATOR(pg_catalog.=) a.attrelid AND d.refobjsubid OPERATOR(pg_catalog.=) a.attnum \
          AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
          AND d.deptype OPERATOR(pg_catalog.=) 'i' \
        JOIN pg_catalog.pg_class AS s ON s.oid OPERATOR(pg_catalog.=) d.objid AND s.relkind OPERATOR(pg_catalog.=) 'S' \
        JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) s.relnamespace \
        WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attidentity OPERATOR(pg_catalog.<>) ''";
    spi::query_once(SQL, &[spi::arg(table)], spi::Snapshot::Latest, |rows| {
        (0..rows.len()).map(|row| Ok((rows.need(row, 0)?, rows.need(row, 1)?))).collect()
    })
}
