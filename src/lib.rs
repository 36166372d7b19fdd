//! refold: an event log, projections kept up to date in the appending transaction, and rebuilds that lose nothing.
//!
//! Layers, importing only downwards: [`api`] (what SQL calls), `worker`, `rebuild`, `projection`, `log`, [`pg`] (the only
//! `unsafe`); `error`, `settings` and `names` know nothing of the rest.

mod api;
mod error;
mod log;
mod names;
mod pg;
mod projection;
mod rebuild;
mod settings;
mod worker;

/// Where `#[pg_guard]` on this crate's own `extern` blocks looks for pgrx's boundary.
mod ffi {
    pub use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
}

use pgrx::prelude::*;

pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/01_log.sql", name = "log", bootstrap);
extension_sql_file!("../sql/02_read.sql", name = "read", requires = ["log"]);
extension_sql_file!("../sql/03_projection.sql", name = "projection", requires = ["read"]);
extension_sql_file!("../sql/04_rebuild.sql", name = "rebuild", requires = ["projection"]);
extension_sql_file!("../sql/05_jobs.sql", name = "jobs", requires = ["rebuild"]);
extension_sql_file!("../sql/06_views.sql", name = "views", requires = ["jobs"]);
extension_sql_file!("../sql/07_privileges.sql", name = "privileges", requires = ["views"], finalize);

/// Called once in each backend that loads the library.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    worker::launcher::register();
    #[cfg(feature = "waitpoints")]
    pg::waitpoint::define();
    pg::shim::reserve_settings();
    pg::invalidation::register();
    pg::shim::install_hooks();
}
