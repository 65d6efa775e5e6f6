//! Suites for pytest: an environment of their own, and how they are run and reported.
//!
//! Knows pip, virtual environments and pytest; not what the tests need from the broker.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::super::apt;
use super::super::clients::{self, Stamp};
use super::super::process::Program;
use super::report::{self, Outcomes};
use super::stage::Stage;

/// The interpreter of an environment with what the suite's `requirements.txt` names.
pub(super) fn environment(stage: &Stage) -> Result<PathBuf> {
    let venv = stage.home.join("venv");
    let python = venv.join("bin/python");
    let requirements = stage.committed("requirements.txt");
    let stamp = Stamp::new(&[&requirements], &venv)?;
    if stamp.is_current() {
        return Ok(python);
    }
    let supervisor = stage.scene.supervisor();
    let system_python = apt::need(supervisor, "python3", &["python3", "python3-venv"], &stage.home)?;
    clients::make_venv(supervisor, &system_python, &venv)?;
    let pip = Program::new("pip", &python).args(["-m", "pip", "install", "--quiet", "--requirement"]);
    stage.set_up(pip.args([requirements]))?;
    stamp.set()?;
    Ok(python)
}

/// Lays out the sources that PyPI has of `requirement`.
pub(super) fn source_from_pypi(stage: &Stage, python: &Path, requirement: &str) -> Result<PathBuf> {
    stage.lay_source(requirement, |source, download| {
        let only_the_source = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"];
        let pip =
            Program::new("pip-download", python).args(only_the_source).args(["--dest"]).args([download]);
        stage.set_up(pip.args([requirement]))?;
        stage.unpack_only_archive(download, source)
    })
}

/// Runs pytest with `args` in `folder`. A test has `seconds_max`, so that one that hangs does not take the others'
/// time.
pub(super) fn run(
    stage: &Stage,
    python: &Path,
    folder: &Path,
    seconds_max: u32,
    args: &[&str],
) -> Result<Outcomes> {
    let log = stage.scene.folder.join("pytest.log");
    let timeout = format!("--timeout={seconds_max}");
    let ours = ["-m", "pytest", "--quiet", "--tb=short", "-p", "no:cacheprovider", &timeout, "--report-log"];
    let program = Program::new("pytest", python)
        .args(ours)
        .args([&log])
        .args(args)
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("RABBITMQ_HOST", "127.0.0.1")
        .env("RABBITMQ_5672_TCP", stage.broker.port.to_string());
    stage.run_tests(program, stage.suite.time_max)?;
    let log =
        fs::read_to_string(&log).with_context(|| format!("pytest left no report in {}", log.display()))?;
    Ok(report::of_pytest(&log))
}
