//! What each client is written in, what it needs, and how it is run.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::packages;
use crate::workspace::Workspace;

/// Debian's Python, whatever others there are: its libraries are for it.
const PYTHON: &str = "/usr/bin/python3";
/// Node's libraries are unpacked: Debian's cannot be installed beside a Node of another's packages.
const NODE_LIBRARIES: [&str; 2] = ["node-pg", "node-split2"];
const GO_PATH: &str = "/usr/share/gocode";
const JAR: &str = "/usr/share/java/postgresql.jar";

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    Node,
    Python,
    Rust,
    Go,
    Java,
}

impl Language {
    pub const ALL: [Self; 5] = [Self::Node, Self::Python, Self::Rust, Self::Go, Self::Java];

    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Python => "python",
            Self::Rust => "rust",
            Self::Go => "go",
            Self::Java => "java",
        }
    }

    /// Whether what it needs is large.
    pub fn is_heavy(self) -> bool {
        matches!(self, Self::Go | Self::Java)
    }

    /// The program, in a folder of its own.
    fn program(self) -> &'static str {
        match self {
            Self::Node => "client.mjs",
            Self::Python => "client.py",
            Self::Rust => "src/main.rs",
            Self::Go => "client.go",
            Self::Java => "Client.java",
        }
    }

    /// The program, from the top of the checkout.
    pub fn file(self) -> String {
        format!("clients/{}/{}", self.name(), self.program())
    }

    /// What the program retries, as it says it, and what it is to say to retry another error only.
    fn retried(self) -> (&'static str, &'static str) {
        match self {
            Self::Node => ("'40001'", "'40P01'"),
            Self::Python => ("SerializationFailure", "DeadlockDetected"),
            Self::Rust => ("T_R_SERIALIZATION_FAILURE", "T_R_DEADLOCK_DETECTED"),
            Self::Go | Self::Java => ("\"40001\"", "\"40P01\""),
        }
    }

    /// Its driver expects the address in a form of its own.
    pub fn url(self, address: &str, user: &str, password: &str) -> String {
        match self {
            Self::Java => format!("jdbc:postgresql://{address}?user={user}&password={password}"),
            Self::Go => format!("postgresql://{user}:{password}@{address}?sslmode=disable"),
            Self::Node | Self::Python | Self::Rust => format!("postgresql://{user}:{password}@{address}"),
        }
    }

    /// What must be installed, and Debian's packages that have it.
    fn needs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Node => &[("node", "nodejs")],
            Self::Python => {
                &[(PYTHON, "python3"), ("/usr/lib/python3/dist-packages/psycopg/sql.py", "python3-psycopg")]
            }
            Self::Rust => &[],
            Self::Go => &[
                ("go", "golang-go"),
                ("/usr/share/gocode/src/github.com/lib/pq/conn.go", "golang-github-lib-pq-dev"),
            ],
            Self::Java => &[
                // It compiles the program, too.
                ("javac", "default-jdk-headless"),
                (JAR, "libpostgresql-jdbc-java"),
            ],
        }
    }

    /// Makes ready a copy of the program, as it is or without its retry, and says how to run it.
    pub fn prepare(self, is_retrying: bool) -> Result<Command> {
        packages::provide_programs(self.needs())?;
        let workspace = Workspace::current()?;
        let built = workspace.target.join("clients").join(self.name());
        let copy = built.join(if is_retrying { "whole" } else { "without_retry" });
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        let program = copy.join(self.program());
        fs::create_dir_all(program.parent().context("the program is in no folder")?)?;
        let mut text = fs::read_to_string(workspace.root.join(self.file()))?;
        if !is_retrying {
            let (retried, other) = self.retried();
            ensure!(text.contains(retried), "{} does not say {retried}", self.file());
            text = text.replace(retried, other);
        }
        fs::write(&program, text)?;
        self.build(&workspace, &program, &copy, &built)
    }

    fn build(self, workspace: &Workspace, program: &Path, copy: &Path, built: &Path) -> Result<Command> {
        Ok(match self {
            Self::Node => {
                let libraries = packages::provide_unpacked(&NODE_LIBRARIES, built)?.join("usr/share/nodejs");
                // `import` looks in node_modules only; the libraries look for each other where they are, and in NODE_PATH.
                symlink(&libraries, copy.join("node_modules"))?;
                let mut node = Command::new("node");
                node.env("NODE_PATH", libraries).arg(program);
                node
            }
            Self::Python => {
                let mut python = Command::new(PYTHON);
                python.arg("-I").arg(program);
                python
            }
            Self::Rust => Command::new(build_rust(workspace, copy, built)?),
            Self::Go => {
                let binary = copy.join("client");
                let mut go = Command::new("go");
                go.args(["build", "-o"]).arg(&binary).arg(program).current_dir(copy);
                go.env("GO111MODULE", "off").env("GOPATH", GO_PATH).env("GOFLAGS", "");
                go.env("GOCACHE", built.join("cache"));
                succeed(&mut go)?;
                Command::new(binary)
            }
            Self::Java => {
                let mut java = Command::new("java");
                java.args(["-cp", JAR]).arg(program);
                java
            }
        })
    }
}

/// With the versions of this checkout, but as a package by itself, as a reader would have it.
fn build_rust(workspace: &Workspace, copy: &Path, built: &Path) -> Result<PathBuf> {
    let manifest = fs::read_to_string(workspace.root.join("clients/rust/Cargo.toml"))?;
    fs::write(copy.join("Cargo.toml"), manifest + "\n[workspace]\n")?;
    fs::copy(workspace.root.join("Cargo.lock"), copy.join("Cargo.lock"))?;
    let target = built.join("target");
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--quiet"]).current_dir(copy).env("CARGO_TARGET_DIR", &target);
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0");
    succeed(&mut cargo)?;
    // Both copies are built to this name.
    let binary = copy.join("client");
    fs::copy(target.join("debug/refold-client"), &binary)?;
    Ok(binary)
}

/// Runs what prints only if it fails.
fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed: {}", complaints.trim());
    Ok(())
}
