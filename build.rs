//! Compiles the C sources against the server's headers and keeps pgrx's SQL section in the library.

use std::env;
use std::process::Command;

const C_SOURCES: [&str; 18] = [
    "event_array.c",
    "fold_step.c",
    "hooks.c",
    "last_version.c",
    "log_table.c",
    "model_row.c",
    "replay_step.c",
    "replay_step.h",
    "scope.c",
    "scope.h",
    "search_path.c",
    "statement.c",
    "storage.c",
    "storage.h",
    "storage_check.c",
    "subtransaction.c",
    "unlogged.c",
    "worker.c",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for source in C_SOURCES {
        println!("cargo::rerun-if-changed=src/pg/{source}");
    }
    println!("cargo::rerun-if-env-changed=PGRX_PG_CONFIG_PATH");
    // pgrx 0.18 describes the SQL of its items in an ELF section that the linker would otherwise drop.
    println!("cargo::rustc-link-arg-cdylib=-Wl,--no-gc-sections");

    let pg_config = env::var("PGRX_PG_CONFIG_PATH").unwrap_or_else(|_| "pg_config".to_owned());
    let output = Command::new(&pg_config).arg("--includedir-server").output()?;
    if !output.status.success() {
        return Err(format!("{pg_config} --includedir-server failed").into());
    }
    cc::Build::new()
        .files(C_SOURCES.iter().filter(|name| name.ends_with(".c")).map(|name| format!("src/pg/{name}")))
        .include(String::from_utf8(output.stdout)?.trim())
        .warnings(true)
        .extra_warnings(false)
        .compile("refold_shim");
    Ok(())
}
