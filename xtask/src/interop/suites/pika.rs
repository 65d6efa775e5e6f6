//! pika's acceptance tests: Python's client with each of its adapters.
//!
//! PyPI's archive has no tests, Debian's sources do. The tests for Twisted are left out: they need no broker, and nose,
//! which runs on no Python of today.

use std::time::Duration;

use anyhow::Result;

use super::debian::UpstreamSource;
use super::report::Outcomes;
use super::stage::Stage;
use super::{Suite, pytest};

pub(super) const SUITE: Suite = Suite { name: "pika", time_max: Duration::from_secs(1200), run };

const SOURCE: UpstreamSource =
    UpstreamSource { package: "python-pika", version: "1.3.2-1", release: "trixie" };

fn run(stage: &Stage) -> Result<Outcomes> {
    const FILES: [&str; 4] = [
        "tests/acceptance/async_adapter_tests.py",
        "tests/acceptance/blocking_adapter_test.py",
        "tests/acceptance/enforce_one_basicget_test.py",
        "tests/acceptance/io_services_tests.py",
    ];
    let source = stage.lay_source(&SOURCE.describe(), |source, download| {
        SOURCE.fetch(stage, download)?;
        stage.unpack_only_archive(download, source)
    })?;
    pytest::run(stage, &pytest::environment(stage)?, &source, 40, &FILES)
}
