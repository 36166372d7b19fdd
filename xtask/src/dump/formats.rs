//! The ways to dump and restore one database.

use anyhow::Result;
use std::path::Path;

use super::tools::Tools;
use crate::server::Server;

/// Restores a dump into an empty database.
type Restore = fn(&Tools, &Server, &str, &Path) -> Result<()>;

pub struct Format {
    pub name: &'static str,
    pub options: &'static [&'static str],
    pub restore: Restore,
}

const SCRIPT: Restore = |tools, server, database, dump| tools.run_script(server, database, dump);

pub const FORMATS: [Format; 9] = [
    Format {
        name: "custom",
        options: &["--format=custom"],
        restore: |tools, server, database, dump| tools.restore(server, database, &[], dump),
    },
    Format {
        name: "custom, in one transaction",
        options: &["--format=custom"],
        restore: |tools, server, database, dump| {
            tools.restore(server, database, &["--single-transaction"], dump)
        },
    },
    Format {
        name: "directory, parallel",
        options: &["--format=directory", "--jobs=4"],
        restore: |tools, server, database, dump| tools.restore(server, database, &["--jobs=4"], dump),
    },
    Format { name: "plain", options: &[], restore: SCRIPT },
    Format { name: "plain, --inserts", options: &["--inserts"], restore: SCRIPT },
    Format {
        name: "plain, --column-inserts --rows-per-insert",
        options: &["--column-inserts", "--rows-per-insert=50"],
        restore: SCRIPT,
    },
    Format {
        name: "section by section",
        options: &["--format=custom"],
        restore: |tools, server, database, dump| {
            let sections = ["--section=pre-data", "--section=data", "--section=post-data"];
            sections.iter().try_for_each(|section| tools.restore(server, database, &[section], dump))
        },
    },
    Format {
        name: "schema, then data",
        options: &["--format=custom"],
        restore: |tools, server, database, dump| {
            tools.restore(server, database, &["--schema-only"], dump)?;
            tools.restore(server, database, &["--data-only"], dump)
        },
    },
    Format {
        name: "schema, then data with triggers disabled",
        options: &["--format=custom"],
        restore: |tools, server, database, dump| {
            tools.restore(server, database, &["--schema-only"], dump)?;
            tools.restore(server, database, &["--data-only", "--disable-triggers"], dump)
        },
    },
];
