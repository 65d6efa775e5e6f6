//! `cargo xtask loom`: model-checks what crosses from one connection's thread to another's.
//!
//! Builds the broker's unit tests with `--cfg loom` in a target folder of their own, so that the
//! usual build stays as it is, and runs those that are made for it. Invariant: a run that finds
//! no check fails.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The module that holds the checks.
const CHECKS: &str = "engine::crossing_tests::";

/// How to model-check.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often a thread may be interrupted in one execution, where it does not wait by itself
    #[arg(long, default_value_t = 3)]
    preemptions: u8,
}

/// Runs the checks; false when one of them failed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let list = checks(options).arg("--list").stderr(Stdio::inherit()).output();
    let listed = list.context("cannot run cargo")?;
    ensure!(listed.status.success(), "the checks do not build");
    ensure!(String::from_utf8_lossy(&listed.stdout).contains(CHECKS), "there are no checks in {CHECKS}");
    Ok(checks(options).status().context("cannot run cargo")?.success())
}

/// The tests' command, to which their own arguments may be added.
fn checks(options: &Options) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--locked", "--package", "leveret-broker", "--lib", "--features", "planted-bugs"]);
    // Loom runs each check some ten thousand times.
    for package in ["generator", "loom"] {
        cargo.args(["--config", &format!("profile.dev.package.{package}.opt-level=2")]);
    }
    cargo.arg("--target-dir").arg(root.join("target/loom")).args(["--", CHECKS]);
    cargo.current_dir(root).env("CARGO_ENCODED_RUSTFLAGS", "--cfg\x1floom");
    // The checks that see a planted bug found would fill the screen with its backtrace.
    cargo.env("LOOM_MAX_PREEMPTIONS", options.preemptions.to_string()).env("RUST_BACKTRACE", "0");
    cargo
}
