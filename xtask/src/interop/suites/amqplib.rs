//! amqplib's tests: JavaScript's client, with promises and with callbacks.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use super::super::apt;
use super::super::process::Program;
use super::Suite;
use super::report::{self, Outcomes};
use super::stage::Stage;

pub(super) const SUITE: Suite = Suite { name: "amqplib", time_max: Duration::from_secs(60), run };

const PACKAGE: &str = "amqplib@2.0.0";

/// What the client needs, and what its tests need besides.
const NEEDS: [&str; 2] = ["buffer-more-ints@1.0.0", "claire@0.4.1"];

fn run(stage: &Stage) -> Result<Outcomes> {
    let supervisor = stage.scene.supervisor();
    let node = apt::need(supervisor, "node", &["nodejs", "npm"], &stage.home)?;
    let npm = apt::need(supervisor, "npm", &["npm"], &stage.home)?;
    let source = stage.lay_source(PACKAGE, |source, download| {
        let pack = Program::new("npm-pack", &npm).args(["pack", "--silent", PACKAGE]);
        stage.set_up(pack.current_dir(download))?;
        stage.unpack_only_archive(download, source)?;
        // They are looked for in the folders above the sources too.
        let install =
            ["install", "--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"];
        let install = Program::new("npm-install", &npm).args(install).args(NEEDS).args(["--prefix"]);
        stage.set_up(install.args([&stage.home])).map(drop)
    })?;
    let mut files: Vec<String> = fs::read_dir(source.join("test"))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".test.js"))
        .collect();
    files.sort();
    let reporter =
        format!("--test-reporter={}", stage.scene.sources().join("suites/node_reporter.mjs").display());
    let program = |file: &str| {
        Program::new(file, &node)
            .args(["--test", &reporter, &format!("test/{file}")])
            .env("URL", stage.broker.url())
            .current_dir(&source)
    };
    let mut outcomes = Outcomes::new();
    for file in &files {
        outcomes.extend(report::of_node(&stage.run_tests(program(file), stage.suite.time_max)?));
    }
    Ok(outcomes)
}
