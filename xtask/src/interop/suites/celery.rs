//! A Celery application of our own, with a worker in a process of its own: retries, ETA, chords, priorities, results
//! over RPC, and a worker that is killed in mid-task.

use std::time::Duration;

use anyhow::Result;

use super::report::Outcomes;
use super::stage::Stage;
use super::{Suite, pytest};

pub(super) const SUITE: Suite = Suite { name: "celery", time_max: Duration::from_secs(600), run };

fn run(stage: &Stage) -> Result<Outcomes> {
    let folder = stage.scene.sources().join("celery");
    pytest::run(stage, &pytest::environment(stage)?, &folder, 120, &["."])
}
