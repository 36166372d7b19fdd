//! What a procedure may do and a function may not: end its transaction.

use super::call::Call;
use crate::error::{Error, Result};
use pgrx::{PgSqlErrorCode, pg_sys};

/// 25001 unless the procedure was called outside a transaction block, so that it may commit.
pub fn require_top_level(call: &Call, command: &str) -> Result<()> {
    // SAFETY: the context of a call is null or a node; a CallContext is what its tag says.
    let atomic = unsafe {
        let node = call.context();
        node.is_null()
            || (*node).type_ != pg_sys::NodeTag::T_CallContext
            || (*node.cast::<pg_sys::CallContext>()).atomic
    };
    if !atomic {
        return Ok(());
    }
    Err(Error::new(
        PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
        format!("{command} cannot run inside a transaction block"),
    )
    .hint(
        "Call it by itself, or use refold.start_rebuild, whose worker begins when the transaction commits.",
    ))
}

/// A procedure's connection, in which transactions can be ended. Connected until dropped.
pub struct Connection(());

impl Connection {
    pub fn open() -> Self {
        // SAFETY: inside a procedure that may end its transaction.
        unsafe { pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32) };
        Self(())
    }

    /// Commits; a new transaction begins, which holds no snapshot.
    pub fn commit(&self) {
        // SAFETY: connected; errors are guarded.
        unsafe { pg_sys::SPI_commit() };
    }

    /// Ends the connection. On an error the abort does.
    pub fn close(self) {
        // SAFETY: connected.
        unsafe { pg_sys::SPI_finish() };
    }
}
