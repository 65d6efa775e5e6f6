//! lapin's tests: Rust's client. They are built in a folder of their own, with the versions that lapin locks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::process::Program;
use super::Suite;
use super::report::{self, Outcomes};
use super::stage::Stage;

pub(super) const SUITE: Suite = Suite { name: "lapin", time_max: Duration::from_secs(120), run };

const VERSION: &str = "4.12.3";

fn run(stage: &Stage) -> Result<Outcomes> {
    let source = stage.lay_source(&format!("lapin {VERSION}"), |source, download| {
        let crate_folder = fetch(stage, download)?;
        let copy =
            Program::new("cp", "cp").args(["--recursive", "--no-target-directory", "--no-preserve=mode"]);
        stage.set_up(copy.args([&crate_folder]).args([source])).map(drop)
    })?;
    let mut outcomes = Outcomes::new();
    for (name, binary) in build(stage, &source)? {
        let program = Program::new(&name, binary).env("AMQP_ADDR", stage.broker.url()).current_dir(&source);
        let printed = stage.run_tests(program, stage.suite.time_max)?;
        outcomes.extend(report::of_libtest(&name, &printed));
    }
    Ok(outcomes)
}

fn cargo(name: &str) -> Program {
    Program::new(name, std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()).as_os_str())
}

/// Has cargo fetch the crate as a dependency of an empty package in `folder`, and gives where it unpacked it.
fn fetch(stage: &Stage, folder: &Path) -> Result<PathBuf> {
    let manifest = format!(
        "[package]\nname = \"fetch\"\nedition = \"2024\"\n[lib]\npath = \"/dev/null\"\n[workspace]\n\
         [dependencies]\nlapin = {{ version = \"={VERSION}\", default-features = false }}\n"
    );
    std::fs::write(folder.join("Cargo.toml"), manifest)?;
    let metadata = cargo("cargo-metadata").args(["metadata", "--format-version=1"]).current_dir(folder);
    let metadata: Value = serde_json::from_str(&stage.set_up(metadata)?.concat())?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let lapin =
        packages.iter().find(|package| package["name"] == "lapin").context("cargo did not fetch lapin")?;
    let manifest = lapin["manifest_path"].as_str().context("lapin has no manifest")?;
    Ok(Path::new(manifest).parent().context("lapin is in no folder")?.to_owned())
}

/// The name and the path of each test binary.
fn build(stage: &Stage, source: &Path) -> Result<Vec<(String, PathBuf)>> {
    let build = cargo("cargo-test")
        .args(["test", "--no-run", "--locked", "--test", "*", "--features", "smol"])
        .args(["--message-format", "json-render-diagnostics"])
        .env("CARGO_TARGET_DIR", stage.home.join("target"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_INCREMENTAL", "0")
        .current_dir(source);
    let messages = stage.set_up(build).context("lapin's tests do not build")?;
    let binary = |message: &String| {
        let message: Value = serde_json::from_str(message).ok()?;
        let executable = message["executable"].as_str()?;
        Some((message["target"]["name"].as_str()?.to_owned(), PathBuf::from(executable)))
    };
    Ok(messages.iter().filter_map(binary).collect())
}
