//! message-db: an event store that is SQL functions and no more. It has no projections.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Appender, Reader, System};
use crate::case::{Append, Case};
use crate::database::Database;
use crate::events::TAKEN;

pub struct MessageDb {
    installer: PathBuf,
}

impl MessageDb {
    pub fn new(folder: &Path) -> Self {
        Self { installer: folder.join("install.sh") }
    }
}

impl System for MessageDb {
    fn name(&self) -> &'static str {
        "message-db"
    }

    fn version(&self) -> String {
        "@eventide/message-db 1.3.1".to_owned()
    }

    fn can(&self, case: &Case) -> bool {
        matches!(case, Case::Append(Append { models: None, .. }) | Case::Read(_))
    }

    fn install(&self, database: &Database) -> Result<()> {
        let mut installer = Command::new("bash");
        database.name_to(installer.arg(&self.installer));
        let output = installer.output().context("cannot run bash")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        database.execute(&format!("ALTER DATABASE {} SET search_path = message_store, public", database.name))
    }

    fn log(&self) -> &'static str {
        "SELECT stream_name AS stream_id, type AS event_type, data FROM messages"
    }

    /// It has no function for several events: they are as many calls in one transaction.
    fn appender(&self, database: &Database, _work: &Append) -> Result<Appender> {
        let mut client = database.connect()?;
        let write = client.prepare(&format!("SELECT write_message($1, $2, '{TAKEN}', $3)"))?;
        Ok(Box::new(move |call| {
            if let [event] = &call.events[..] {
                client.query_one(&write, &[&event.id.to_string(), &call.stream, &event.data])?;
                return Ok(0);
            }
            let mut transaction = client.transaction()?;
            for event in &call.events {
                transaction.query_one(&write, &[&event.id.to_string(), &call.stream, &event.data])?;
            }
            transaction.commit()?;
            Ok(0)
        }))
    }

    fn reader(&self, database: &Database) -> Result<Reader> {
        let mut client = database.connect()?;
        let read = client.prepare("SELECT * FROM get_stream_messages($1, 0, -1)")?;
        Ok(Box::new(move |stream| Ok(client.query(&read, &[&stream])?.len() as u64)))
    }
}
