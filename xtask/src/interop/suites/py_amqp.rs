//! py-amqp's integration tests: the client below kombu and Celery.
//!
//! Its tests over TLS are left out: they need certificates that the archive does not have, and pass nowhere.

use std::time::Duration;

use anyhow::Result;

use super::report::Outcomes;
use super::stage::Stage;
use super::{Suite, pytest};

pub(super) const SUITE: Suite = Suite { name: "py-amqp", time_max: Duration::from_secs(600), run };

fn run(stage: &Stage) -> Result<Outcomes> {
    let python = pytest::environment(stage)?;
    let source = pytest::source_from_pypi(stage, &python, "amqp==5.4.2")?;
    pytest::run(stage, &python, &source, 60, &["t/integration", "-k", "not tls"])
}
