//! kombu's integration tests with py-amqp: the messaging library below Celery.

use std::time::Duration;

use anyhow::Result;

use super::report::Outcomes;
use super::stage::Stage;
use super::{Suite, pytest};

pub(super) const SUITE: Suite = Suite { name: "kombu", time_max: Duration::from_secs(600), run };

fn run(stage: &Stage) -> Result<Outcomes> {
    let python = pytest::environment(stage)?;
    let source = pytest::source_from_pypi(stage, &python, "kombu==5.7.0")?;
    pytest::run(stage, &python, &source, 60, &["t/integration/test_py_amqp.py"])
}
