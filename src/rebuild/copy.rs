//! The tables that a rebuild fills: copies of the live ones in a schema of their own, gone when the rebuild ends.

use super::destination::Destination;
use crate::error::{Error, Result};
use crate::pg::catalog::Catalog;
use crate::pg::{identity, process, schema, spi, unlogged};
use crate::projection::registry::{Kind, Projection};
use crate::projection::table::Table;

/// The copies of one projection's tables.
pub struct Copy {
    pub to: Destination,
    /// The schema that holds them, quoted.
    schema: String,
}

impl Copy {
    /// Makes the schema; and the tables, empty and with all keys, indexes and checks, for a handler that writes for
    /// itself. A fold's table is made by its replay.
    pub fn create(catalog: &Catalog, projection: &Projection) -> Result<Self> {
        let schema = schema::unused(&format!("refold_copy_{}", process::id()));
        let to = Destination::copies(catalog, projection, schema.clone())?;
        unlogged::make();
        let owner = identity::name_of(projection.owner);
        identity::as_refold(catalog.owner, || {
            spi::command(&format!("CREATE SCHEMA {schema} AUTHORIZATION {owner}"))
        })?;
        let copy = Self { to, schema };
        identity::as_owner(projection.owner, &copy.to.settings, || match projection.kind {
            Kind::Fold => Ok(()),
            Kind::PerEvent | Kind::PerBatch => copy.create_tables(),
        })?;
        Ok(copy)
    }

    fn create_tables(&self) -> Result<()> {
        for table in &self.to.tables {
            let sql = format!(
                "CREATE UNLOGGED TABLE {} (LIKE {} INCLUDING ALL EXCLUDING STATISTICS \
                 EXCLUDING COMMENTS)",
                self.to.of(table),
                table.qualified
            );
            spi::command(&sql)?;
            self.name_constraints(table)?;
        }
        Ok(())
    }

    /// Gives the copy's keys the names of the live table's: a handler may name them, ON CONFLICT ON CONSTRAINT. In two
    /// steps, for a name may be another one's at first. A name that another relation of the copies has is left out.
    fn name_constraints(&self, table: &Table) -> Result<()> {
        const SQL: &str = "WITH c AS (SELECT o.conrelid, o.conname, pg_catalog.row_number() OVER (PARTITION BY \
              o.conrelid, pg_catalog.pg_get_constraintdef(o.oid) ORDER BY o.oid) AS n, \
              pg_catalog.pg_get_constraintdef(o.oid) AS definition \
            FROM pg_catalog.pg_constraint AS o WHERE o.contype OPERATOR(pg_catalog.=) ANY ('{p,u,x}') \
              AND o.conrelid OPERATOR(pg_catalog.=) ANY (ARRAY[$1, $2::pg_catalog.regclass::pg_catalog.oid])) \
          SELECT pg_catalog.quote_ident(s.conname), pg_catalog.quote_ident(l.conname) FROM c AS l JOIN c AS s \
            ON s.definition OPERATOR(pg_catalog.=) l.definition AND s.n OPERATOR(pg_catalog.=) l.n \
          WHERE l.conrelid OPERATOR(pg_catalog.=) $1 AND s.conrelid OPERATOR(pg_catalog.=) \
            $2::pg_catalog.regclass::pg_catalog.oid AND s.conname OPERATOR(pg_catalog.<>) l.conname \
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_class AS k \
              WHERE k.relname OPERATOR(pg_catalog.=) l.conname AND k.relnamespace OPERATOR(pg_catalog.=) \
                (SELECT t.relnamespace FROM pg_catalog.pg_class AS t WHERE t.oid OPERATOR(pg_catalog.=) s.conrelid) \
                AND k.oid OPERATOR(pg_catalog.<>) ALL (SELECT i.conindid FROM pg_catalog.pg_constraint AS i \
                  WHERE i.conrelid OPERATOR(pg_catalog.=) s.conrelid \
                    AND i.contype OPERATOR(pg_catalog.=) ANY ('{p,u,x}')))";
        let copy = self.to.of(table);
        let args = [spi::arg(table.relation), spi::arg(copy.as_str())];
        let names: Vec<(String, String)> = spi::query_once(SQL, &args, spi::Snapshot::Latest, |rows| {
            (0..rows.len()).map(|row| Ok((rows.need(row, 0)?, rows.need(row, 1)?))).collect()
        })?;
        let rename = |from: &str, to: &str| {
            spi::command(&format!("ALTER TABLE {copy} RENAME CONSTRAINT {from} TO {to}"))
        };
        for (number, (given, _)) in names.iter().enumerate() {
            rename(given, &format!("{}_{number}", self.schema))?;
        }
        for (number, (_, wanted)) in names.iter().enumerate() {
            rename(&format!("{}_{number}", self.schema), wanted)?;
        }
        Ok(())
    }

    /// 55000 if a live table has got another name since: what the merge has written then lies in another table. A schema
    /// is renamed without a lock on its tables.
    pub fn require_names_unchanged(&self, catalog: &Catalog) -> Result<()> {
        for table in &self.to.tables {
            if Table::read(catalog, table.relation)?.qualified != table.qualified {
                return Err(Error::wrong_state(format!("table {} was renamed meanwhile", table.qualified))
                    .hint("Rebuild again."));
            }
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
