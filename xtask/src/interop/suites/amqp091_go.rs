//! The integration tests of amqp091-go, RabbitMQ's own client for Go, with Go and the sources as Debian has them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::apt;
use super::super::process::Program;
use super::Suite;
use super::report::{self, Outcomes};
use super::stage::Stage;

pub(super) const SUITE: Suite = Suite { name: "amqp091-go", time_max: Duration::from_secs(600), run };

const GOPATH: &str = "/usr/share/gocode";
const IMPORT_PATH: &str = "github.com/rabbitmq/amqp091-go";
const PACKAGES: [&str; 2] = ["golang-go", "golang-github-rabbitmq-amqp091-go-dev"];

fn run(stage: &Stage) -> Result<Outcomes> {
    let supervisor = stage.scene.supervisor();
    let go = apt::need(supervisor, "go", &PACKAGES, &stage.home)?;
    let installed = Path::new(GOPATH).join("src").join(IMPORT_PATH);
    if !installed.exists() {
        apt::install(supervisor, &PACKAGES, &stage.home)?;
    }
    ensure!(installed.exists(), "{} is not in {}", PACKAGES[1], installed.display());
    let version = installed_version(stage)?;
    let source = stage.lay_source(&version, |source, _| copy(stage, &installed, source))?;
    let program = Program::new("go-test", go)
        .args(["test", "-json", "-count=1", "-tags=integration", "-timeout=550s", IMPORT_PATH])
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("GOPATH", format!("{}:{GOPATH}", source.display()))
        .env("GOCACHE", stage.home.join("cache"));
    Ok(report::of_go(&stage.run_tests(program, stage.suite.time_max)?))
}

fn installed_version(stage: &Stage) -> Result<String> {
    let query = ["--show", "--showformat", "${Package} ${Version}", PACKAGES[1]];
    let shown = stage.set_up(Program::new("dpkg-query", "dpkg-query").args(query))?;
    shown.into_iter().next().context("dpkg-query says nothing")
}

/// Copies the package to where Go looks for its import path below `source`.
fn copy(stage: &Stage, installed: &Path, source: &Path) -> Result<()> {
    let place: PathBuf = source.join("src").join(IMPORT_PATH);
    std::fs::create_dir_all(&place)?;
    let copy = Program::new("cp", "cp").args(["--recursive", "--dereference", "--no-target-directory"]);
    stage.set_up(copy.args([installed]).args([&place])).map(drop)
}
