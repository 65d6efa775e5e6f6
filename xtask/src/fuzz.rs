//! `cargo xtask fuzz`: builds the fuzz targets with coverage instrumentation, runs each for a
//! bounded time from its kept corpus, and replays an input that broke one.
//!
//! The flags are those that cargo-fuzz gives the compiler, all of them stable, so that neither
//! cargo-fuzz nor a nightly compiler is needed. Invariant: a run without coverage feedback fails,
//! because it would find nothing and look like success.

use std::collections::VecDeque;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Instruments every edge with a counter and every comparison with a hook; one codegen unit, so
/// that the counters of a crate are in one place.
const INSTRUMENTATION: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "--cfg",
    "fuzzing",
];

/// An input that takes longer is an error, as is a process that grows larger. How much an input
/// may allocate is for the targets themselves to say, in proportion to its size.
const LIMITS: &[&str] = &["-timeout=5", "-rss_limit_mb=512"];

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds for each target
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Run this input once instead, on the one target named
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Targets; without any, all of them
    targets: Vec<String>,
}

/// Runs the targets; false when one of them failed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("fuzz");
    let targets = choose_targets(&folder, &options.targets)?;
    if let Some(input) = &options.replay {
        let [target] = &targets[..] else { bail!("--replay needs the name of one target") };
        let binaries = build(&folder, &targets)?;
        return replay(&binaries.join(target), input);
    }
    let binaries = build(&folder, &targets)?;
    let mut all_passed = true;
    for target in &targets {
        all_passed &= Run::new(&folder, &binaries, target)?.for_seconds(options.seconds)?;
    }
    Ok(all_passed)
}

fn choose_targets(folder: &Path, wanted: &[String]) -> Result<Vec<String>> {
    let mut known = Vec::new();
    for file in fs::read_dir(folder.join("fuzz_targets")).context("cannot list the fuzz targets")? {
        known.extend(file?.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    known.sort();
    if wanted.is_empty() {
        return Ok(known);
    }
    for target in wanted {
        ensure!(known.contains(target), "no fuzz target {target:?}; there are {}", known.join(", "));
    }
    Ok(wanted.to_vec())
}

/// Builds the targets and returns the folder that holds their binaries.
fn build(folder: &Path, targets: &[String]) -> Result<PathBuf> {
    let host = host_triple()?;
    let target_dir = folder.join("target");
    let mut cargo = cargo();
    cargo.args(["build", "--release", "--locked", "--manifest-path"]).arg(folder.join("Cargo.toml"));
    // Naming the host as the target keeps the flags from build scripts and procedural macros.
    cargo.args(["--target", &host, "--target-dir"]).arg(&target_dir);
    cargo.args(targets.iter().flat_map(|target| ["--bin", target]));
    cargo.env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTATION.join("\x1f"));
    ensure!(cargo.status().context("cannot run cargo")?.success(), "the fuzz targets do not build");
    Ok(target_dir.join(host).join("release"))
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn host_triple() -> Result<String> {
    let version = cargo().arg("-vV").output().context("cannot run cargo")?;
    let version = String::from_utf8(version.stdout).context("cargo -vV is not text")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("cargo -vV names no host")
}

fn replay(binary: &Path, input: &Path) -> Result<bool> {
    // libFuzzer would take a name that does not exist for a folder, and start afresh.
    ensure!(input.is_file(), "there is no file {}", input.display());
    let status = Command::new(binary).args(LIMITS).arg(input).status();
    Ok(status.with_context(|| format!("cannot run {}", binary.display()))?.success())
}

/// One target's run.
struct Run<'a> {
    target: &'a str,
    binary: PathBuf,
    /// The corpus in the repository, only read.
    kept: PathBuf,
    /// What runs on this machine found; libFuzzer adds to it.
    found: PathBuf,
    artifacts: PathBuf,
    log: PathBuf,
}

impl<'a> Run<'a> {
    fn new(folder: &Path, binaries: &Path, target: &'a str) -> Result<Self> {
        let run = Self {
            target,
            binary: binaries.join(target),
            kept: folder.join("corpus").join(target),
            found: folder.join("target/corpus").join(target),
            artifacts: folder.join("artifacts").join(target),
            log: folder.join("target").join(format!("{target}.log")),
        };
        ensure!(run.kept.is_dir(), "the target {target} has no corpus in {}", run.kept.display());
        for made in [&run.found, &run.artifacts] {
            fs::create_dir_all(made).with_context(|| format!("cannot create {}", made.display()))?;
        }
        Ok(run)
    }

    fn for_seconds(&self, seconds: u32) -> Result<bool> {
        let mut prefix = self.artifacts.clone().into_os_string();
        prefix.push("/");
        let mut fuzzer = Command::new(&self.binary);
        fuzzer.args(LIMITS).args([format!("-max_total_time={seconds}"), "-print_final_stats=1".to_owned()]);
        fuzzer.arg(option("-artifact_prefix=", &prefix)).args([&self.found, &self.kept]);
        fuzzer.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut fuzzer = fuzzer.spawn().with_context(|| format!("cannot run {}", self.binary.display()))?;
        let told = fuzzer.stderr.take().expect("it is piped");
        let summary = self.summarise(BufReader::new(told))?;
        let passed = fuzzer.wait().context("cannot wait for the fuzzer")?.success();
        self.report(&summary, passed)
    }

    /// Reads what libFuzzer tells, into the log and into a summary.
    fn summarise(&self, told: impl BufRead) -> Result<Summary> {
        let mut log = File::create(&self.log).context("cannot create the log")?;
        let mut summary = Summary::default();
        for line in told.split(b'\n') {
            let line = line.context("cannot read from the fuzzer")?;
            log.write_all(&line).and_then(|()| log.write_all(b"\n")).context("cannot write the log")?;
            summary.take(&String::from_utf8_lossy(&line));
        }
        Ok(summary)
    }

    fn report(&self, summary: &Summary, passed: bool) -> Result<bool> {
        let Self { target, log, .. } = self;
        if passed {
            ensure!(summary.edges > 0, "{target}: no coverage feedback; see {}", log.display());
            println!("{target}: {} runs, {} edges covered, no failure", summary.runs, summary.edges);
            return Ok(true);
        }
        eprintln!("{target}: failed; the end of {}:", log.display());
        summary.last_lines.iter().chain(&summary.panic).for_each(|line| eprintln!("  {line}"));
        match &summary.artifact {
            Some(file) => eprintln!("replay it with: cargo xtask fuzz --replay {file} {target}"),
            None => eprintln!("{target}: libFuzzer kept no input"),
        }
        Ok(false)
    }
}

fn option(name: &str, value: &OsStr) -> OsString {
    let mut option = OsString::from(name);
    option.push(value);
    option
}

/// What libFuzzer told.
#[derive(Default)]
struct Summary {
    /// Edges of the control flow that some input reached.
    edges: u64,
    runs: u64,
    /// The file that holds the input that failed.
    artifact: Option<String>,
    /// What panicked, and why.
    panic: Vec<String>,
    last_lines: VecDeque<String>,
}

impl Summary {
    const LAST_LINES_MAX: usize = 30;

    fn take(&mut self, line: &str) {
        if let Some(edges) = number_behind(line, "cov: ") {
            self.edges = edges;
        }
        if let Some(runs) = number_behind(line, "stat::number_of_executed_units: ") {
            self.runs = runs;
        }
        if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.artifact = Some(file.to_owned());
        }
        // The reason is on the line behind the place.
        if line.contains(" panicked at ") || self.panic.len() == 1 {
            self.panic.push(line.to_owned());
        }
        if self.last_lines.len() == Self::LAST_LINES_MAX {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line.to_owned());
    }
}

fn number_behind(line: &str, words: &str) -> Option<u64> {
    line.split_once(words)?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_takes_what_libfuzzer_tells() {
        let mut summary = Summary::default();
        for line in [
            "thread '<unnamed>' (587) panicked at src/lib.rs:44:5:",
            "the reason",
            "#2\tINITED cov: 12 ft: 12 corp: 1/1b exec/s: 0 rss: 27Mb",
            "#1463262\tDONE   cov: 226 ft: 911 corp: 172/35Kb lim: 4096 exec/s: 133023 rss: 28Mb",
            "stat::number_of_executed_units: 1463262",
            "artifact_prefix='fuzz/artifacts/table/'; Test unit written to fuzz/artifacts/table/crash-1a",
        ] {
            summary.take(line);
        }
        assert_eq!((summary.edges, summary.runs), (226, 1_463_262));
        assert_eq!(summary.artifact.as_deref(), Some("fuzz/artifacts/table/crash-1a"));
        assert_eq!(summary.panic.last().map(String::as_str), Some("the reason"));
        (0..100).for_each(|_| summary.take("another"));
        assert_eq!(summary.last_lines.len(), Summary::LAST_LINES_MAX);
    }

    #[test]
    fn targets_are_those_in_the_folder_and_a_wrong_name_is_told() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("fuzz");
        let all = choose_targets(&folder, &[]).unwrap();
        assert!(all.iter().any(|target| target == "frame"));
        assert_eq!(choose_targets(&folder, &["table".to_owned()]).unwrap(), ["table"]);
        let error = choose_targets(&folder, &["fram".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("no fuzz target \"fram\"; there are "), "{error}");
    }

    #[test]
    fn every_target_is_a_binary_of_the_fuzz_workspace_and_has_a_corpus() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        for target in choose_targets(&folder, &[]).unwrap() {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
            assert!(fs::read_dir(folder.join("corpus").join(&target)).unwrap().count() > 0, "{target}");
        }
    }
}
