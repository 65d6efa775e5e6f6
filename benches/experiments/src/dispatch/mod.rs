//! Experiment 1: who encodes a delivery, and under whose lock.
//!
//! Real sockets on loopback without AMQP; the clients are a process of their own, so that the broker's
//! processor time stands alone. This file holds what the designs share and the plan of the runs.

mod broker;
mod direct;
mod generator;
mod inbox;
mod log;
mod plan;
mod pull;
mod settings;
mod unacked;

use std::sync::Arc;

use tokio::sync::Notify;

use crate::measure::Problem;
use log::Location;

/// The hidden subcommand that is the clients' process.
pub(crate) const GENERATOR: &str = "dispatch-generator";

/// A queue of one design.
trait Queue: Send + Sync {
    /// Takes a batch; runs on the publisher's thread.
    fn publish(&self, batch: &[Location]);

    /// Adds a consumer, for whose connection the feed is.
    fn attach(self: Arc<Self>) -> Box<dyn Feed>;
}

/// Where a consumer's connection gets its deliveries from; owned by the connection's task.
trait Feed: Send {
    /// Notified when there may be something to fill with.
    fn wake(&self) -> &Notify;

    /// Puts encoded deliveries into the empty `output`; leaves it empty when there are none.
    fn fill(&mut self, output: &mut Vec<u8>);

    fn acknowledged(&mut self, tags: &[u64]);
}

/// Round robin: the consumer whose turn it is, and how many of `ready` messages it takes in a run. Only
/// one who is alone in having credit takes more than one.
fn choose(credits: impl Iterator<Item = u32>, next: usize, ready: usize) -> Option<(usize, usize)> {
    let (mut first, mut from_next, mut open) = (None, None, 0);
    for (index, credit) in credits.enumerate().filter(|&(_, credit)| credit > 0) {
        open += 1;
        first = first.or(Some((index, credit)));
        if index >= next {
            from_next = from_next.or(Some((index, credit)));
        }
    }
    let (index, credit) = from_next.or(first)?;
    Some((index, if open == 1 { ready.min(credit as usize) } else { 1 }))
}

/// Runs the named parts, or all.
pub(crate) fn run(parts: &[String]) -> Result<(), Problem> {
    plan::run(parts)
}

/// The clients' process: a port and settings.
pub(crate) fn generate(arguments: &[String]) -> Result<(), Problem> {
    let [port, settings] = arguments else { return Err("the generator wants a port and settings".into()) };
    generator::run(port.parse()?, settings.parse()?)
}
