//! Other people's test suites, run against both brokers.
//!
//! Holds which suites there are and what a case of one is: RabbitMQ has passed what its list names, and leveret must
//! pass the same. A suite's own module knows how its tool is set up and started.
//! Invariant: what a list names and a run does not report has failed there.

mod aio_pika;
mod amqp091_go;
mod amqplib;
mod broker;
mod celery;
mod debian;
mod kombu;
mod lapin;
mod list;
mod pika;
mod py_amqp;
mod pytest;
mod report;
mod stage;

use std::time::Duration;

use anyhow::{Result, ensure};

use super::lab::Scene;
use super::{Against, Case};
use broker::Broker;
use list::Lists;
use report::Outcomes;
use stage::Stage;

/// A suite of tests that somebody else wrote for their client, or that we wrote for somebody's framework.
pub(super) struct Suite {
    name: &'static str,
    /// How long one start of its tool may take: all tests, or those of one file.
    time_max: Duration,
    /// Sets up what it needs and runs it.
    run: fn(&Stage) -> Result<Outcomes>,
}

const SUITES: [Suite; 8] = [
    pika::SUITE,
    amqplib::SUITE,
    py_amqp::SUITE,
    kombu::SUITE,
    lapin::SUITE,
    amqp091_go::SUITE,
    aio_pika::SUITE,
    celery::SUITE,
];

/// Each suite must pass what its list names.
pub(super) fn cases(against: Against) -> impl Iterator<Item = Case> {
    SUITES.iter().map(move |suite| {
        let check = move |scene: &Scene| suite.lists(scene)?.check(&suite.outcomes(scene)?, against);
        Case::new(suite.case_name(), against, check).only_in_the_long_set()
    })
}

/// Each suite is run on RabbitMQ, and what passes becomes its list.
pub(super) fn writers() -> impl Iterator<Item = Case> {
    SUITES.iter().map(|suite| {
        let write = |scene: &Scene| {
            Lists::write(&scene.sources().join("suites"), suite.name, &suite.outcomes(scene)?)
        };
        Case::new(suite.case_name(), Against::RabbitMq, write)
    })
}

impl Suite {
    fn case_name(&self) -> String {
        format!("suites/{}", self.name)
    }

    fn lists(&self, scene: &Scene) -> Result<Lists> {
        Lists::read(&scene.sources().join("suites"), self.name)
    }

    /// What the suite reports about a broker that nobody used before.
    fn outcomes(&'static self, scene: &Scene) -> Result<Outcomes> {
        let stage = Stage::set(scene, self)?;
        let outcomes = (self.run)(&stage)?;
        stage.broker.stop()?;
        ensure!(!outcomes.is_empty(), "the suite reports no test");
        Ok(outcomes)
    }
}
