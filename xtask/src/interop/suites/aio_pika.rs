//! aio-pika's tests: Python's client for asyncio, with its connections that recover by themselves.
//!
//! They start a broker in a container; the patch gives them the address of one that runs. Those over TLS are left out.

use std::time::Duration;

use anyhow::Result;

use super::debian::UpstreamSource;
use super::report::Outcomes;
use super::stage::Stage;
use super::{Suite, pytest};

pub(super) const SUITE: Suite = Suite { name: "aio-pika", time_max: Duration::from_secs(1800), run };

const SOURCE: UpstreamSource =
    UpstreamSource { package: "python-aio-pika", version: "9.5.6-1", release: "sid" };

fn run(stage: &Stage) -> Result<Outcomes> {
    let source = stage.lay_source(&SOURCE.describe(), |source, download| {
        SOURCE.fetch(stage, download)?;
        stage.unpack_only_archive(download, source)
    })?;
    pytest::run(stage, &pytest::environment(stage)?, &source, 60, &["tests", "--ignore=tests/test_amqps.py"])
}
