//! The call of a handler.

use super::function::Function;
use crate::error::Result;
use crate::pg::shim::Scope;
use crate::pg::{model_row, spi};
use pgrx::pg_sys;

/// A handler that takes these arguments.
pub struct Handler {
    oid: pg_sys::Oid,
    returns_row: bool,
    /// Without a statement, where that does not cost the function its place in the statement's plan.
    direct: bool,
    statement: spi::Plan,
}

impl Handler {
    /// Called as the projection's owner.
    pub fn prepare(function: &Function, arguments: &[pg_sys::Oid]) -> Result<Self> {
        let parameters: Vec<_> = (1..=arguments.len()).map(|number| format!("${number}")).collect();
        let sql = format!("SELECT {}({})", function.qualified, parameters.join(", "));
        Ok(Self {
            oid: function.oid,
            returns_row: function.result_table != pg_sys::InvalidOid,
            direct: !function.in_sql && function.arguments == arguments,
            statement: spi::Plan::prepare(&sql, arguments)?,
        })
    }

    /// Whether [`Handler::call`] needs no statement.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// What it returns, in the current memory. Called as the owner.
    pub fn call(&self, arguments: &[spi::Arg], scope: &mut Scope) -> Result<spi::Arg> {
        if self.direct
            && let Some(result) = model_row::call_handler(self.oid, arguments, self.returns_row, scope)?
        {
            return Ok(result);
        }
        spi::query(&self.statement, arguments, spi::Snapshot::Command, Some(scope), |rows| {
            Ok(if self.returns_row { rows.datum(0, 0) } else { None })
        })
    }
}
