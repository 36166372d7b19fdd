//! Where a replay writes: copies of the live tables in a schema of their own, or the live tables themselves.

use crate::error::Result;
use crate::pg::catalog::Catalog;
use crate::pg::identity::Settings;
use crate::pg::spi;
use crate::projection::mirror;
use crate::projection::registry::Projection;
use crate::projection::table::Table;

/// The tables that a replay fills.
pub struct Destination {
    /// The copies' schema, quoted; `None`: the live tables.
    pub schema: Option<String>,
    /// The live tables, in their projection's order.
    pub tables: Vec<Table>,
    /// The handler's settings, which lead it to the tables.
    pub settings: Settings,
}

impl Destination {
    /// The copies in this schema, quoted.
    pub fn copies(catalog: &Catalog, projection: &Projection, schema: String) -> Result<Self> {
        let settings = mirror::led_to(&schema, projection);
        Ok(Self { schema: Some(schema), tables: read(catalog, projection)?, settings })
    }

    /// The live tables.
    pub fn live(catalog: &Catalog, projection: &Projection) -> Result<Self> {
        Ok(Self { schema: None, tables: read(catalog, projection)?, settings: projection.settings.clone() })
    }

    /// Schema and name of what is written for a live table.
    pub fn of(&self, table: &Table) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", table.name),
            None => table.qualified.clone(),
        }
    }

    /// Collects statistics, so that plans made while the tables were empty are made again.
    pub fn analyze(&self) -> Result<()> {
        for table in &self.tables {
            spi::command(&format!("ANALYZE {}", self.of(table)))?;
        }
        Ok(())
    }
}

fn read(catalog: &Catalog, projection: &Projection) -> Result<Vec<Table>> {
    projection.tables.iter().map(|&table| Table::read(catalog, table)).collect()
}
