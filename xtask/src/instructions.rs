//! `cargo xtask instructions`: what a message costs the engine, in instructions.
//!
//! Instructions do not shake as times do, so a change that costs a few of them shows itself on any
//! machine. Each scenario of `benches/path` is counted by valgrind with two numbers of messages;
//! the difference is theirs alone. `benches/path/instructions.txt` has what they may cost.
//! Invariant: the file is changed by `--write` only, and never by a run that checks.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

/// Numbers of published messages that are compared.
const MESSAGES: [u64; 2] = [20_000, 60_000];
/// How far above its limit a scenario may be, in percent: libraries of the system differ.
const TOLERANCE_PERCENT: u64 = 3;
const LIMITS: &str = "benches/path/instructions.txt";
const HEADING: &str = "\
# Instructions for each published message, counted by `cargo xtask instructions`. A scenario that costs more
# fails; a limit is raised by `cargo xtask instructions --write` with a line of reason in docs/performance.md.
";

/// How to count.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write what was counted as the new limits
    #[arg(long)]
    write: bool,
    /// Scenarios to count; all when none is named
    scenarios: Vec<String>,
}

/// Counts the scenarios; false when one of them costs more than it may.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(
        !options.write || options.scenarios.is_empty(),
        "limits are written for all scenarios at once: leave out their names"
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace");
    let limits = read_limits(root)?;
    let unknown = options.scenarios.iter().find(|name| !limits.contains_key(*name));
    if let Some(unknown) = unknown {
        bail!("there is no scenario {unknown} in {LIMITS}");
    }
    let program = build(root)?;
    let mut counted = BTreeMap::new();
    let mut within = true;
    for (name, &limit) in &limits {
        if !options.scenarios.is_empty() && !options.scenarios.contains(name) {
            continue;
        }
        let instructions = count(&program, name)?;
        let is_within = instructions * 100 <= limit * (100 + TOLERANCE_PERCENT);
        within &= is_within || options.write;
        let outcome = match (options.write, is_within) {
            (true, _) => "new   ",
            (false, true) => "ok    ",
            (false, false) => "FAILED",
        };
        println!("{outcome} {name:16} {instructions:6} instructions a message, limit {limit}");
        counted.insert(name.clone(), instructions);
    }
    if options.write {
        write_limits(root, &counted)?;
    }
    Ok(within)
}

fn build(root: &Path) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--locked", "--release", "--package", "leveret-path"])
        .current_dir(root)
        .status()
        .context("cannot run cargo")?;
    ensure!(built.success(), "the scenarios do not build");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/leveret-path"))
}

/// Instructions for each message beyond the first ones.
fn count(program: &Path, scenario: &str) -> Result<u64> {
    let [few, many] = MESSAGES;
    let instructions = total(program, scenario, many)?.saturating_sub(total(program, scenario, few)?);
    Ok(instructions / (many - few))
}

/// Instructions of a whole run.
fn total(program: &Path, scenario: &str, messages: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(program)
        .args([scenario, &messages.to_string()])
        .output()
        .context("cannot run valgrind; install it (on Debian: apt-get install valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{scenario} failed:\n{said}");
    let line = said.lines().find(|line| line.contains("refs:"));
    let digits: String = line
        .and_then(|line| line.rsplit("refs:").next())
        .with_context(|| format!("valgrind does not say how many instructions it counted:\n{said}"))?
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    digits.parse().with_context(|| format!("valgrind counted {digits:?} instructions"))
}

fn read_limits(root: &Path) -> Result<BTreeMap<String, u64>> {
    let path = root.join(LIMITS);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| parse_limit(line).with_context(|| format!("{LIMITS} has the line {line:?}"))).collect()
}

fn parse_limit(line: &str) -> Option<(String, u64)> {
    let (name, instructions) = line.split_once(' ')?;
    Some((name.to_owned(), instructions.trim().parse().ok()?))
}

fn write_limits(root: &Path, counted: &BTreeMap<String, u64>) -> Result<()> {
    let lines: String =
        counted.iter().map(|(name, instructions)| format!("{name} {instructions}\n")).collect();
    let path = root.join(LIMITS);
    fs::write(&path, format!("{HEADING}{lines}")).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_name_and_a_number() {
        assert_eq!(parse_limit("fan-out 5720"), Some(("fan-out".to_owned(), 5720)));
        assert_eq!(parse_limit("fan-out"), None);
        assert_eq!(parse_limit("fan-out many"), None);
    }

    #[test]
    fn the_file_has_limits() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(read_limits(root).unwrap().len() > 5);
    }
}
