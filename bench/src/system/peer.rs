//! Programs of peers in other languages: what they are told and what they answer is JSON.

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::database::Database;

/// Runs `program script task input` on the database; its answer.
pub fn ask<T: DeserializeOwned>(
    program: &str,
    script: &Path,
    database: &Database,
    task: &str,
    input: &impl Serialize,
) -> Result<T> {
    let mut command = Command::new(program);
    command.arg(script).arg(task).arg(serde_json::to_string(input)?);
    database.name_to(&mut command);
    let output = command.stderr(Stdio::piped()).output().with_context(|| format!("cannot run {program}"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {task}: {}\n{complaint}", script.display(), output.status);
    serde_json::from_str(&printed)
        .with_context(|| format!("{} {task} answered {printed:?}\n{complaint}", script.display()))
}
