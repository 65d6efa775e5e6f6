//! Dead letters: messages that left a queue unconsumed are published anew, to the queue's
//! dead-letter exchange.
//!
//! Whoever's step made them does it, as a list of work outside all locks. Invariant: a dead letter
//! is given back to the log after what takes its place is there.

use std::sync::Arc;

use leveret_wire::{Properties, PublishRoute, ShortStr, Table};

use super::{
    Engine,
    batch::{Batch, Message, Republication},
    queue_cell::{QueueCell, Scratch},
    routes::{QueueRoute, route_from},
};
use crate::{
    Location, Now,
    model::{
        death::{self, Death},
        queue::DeathReason,
    },
};

/// A message that left a queue.
pub(super) struct DeadLetter {
    pub(super) queue: Arc<QueueCell>,
    pub(super) location: Location,
    pub(super) reason: DeathReason,
}

/// Dead letters on their way into queues.
#[derive(Default)]
pub(super) struct Undertaker {
    republication: Republication,
}

impl Undertaker {
    /// Whether a part of its work is under way.
    pub(super) const fn is_busy(&self) -> bool {
        self.republication.is_busy()
    }

    /// Publishes the dead letters of `scratch`, and those that follow from that, as far as the
    /// budget of appends goes; true when some may be left.
    pub(super) fn work(&mut self, engine: &Engine, scratch: &mut Scratch, now: Now, budget: usize) -> bool {
        self.republication.work(engine, scratch, budget, |scratch, batch| {
            let letter = scratch.dead_letters.pop_front()?;
            letter.publish(engine, batch, now);
            Some(letter.location)
        })
    }
}

impl DeadLetter {
    /// Puts what takes the letter's place into the batch, if any queue wants it.
    fn publish(&self, engine: &Engine, batch: &mut Batch, now: Now) {
        let Some(target) = &self.queue.declaration.parsed.dead_letter else { return };
        let Some(vhost) = self.queue.vhost.upgrade() else { return };
        let chunk = engine.log.chunk(self.location);
        let record = chunk.record(self.location);
        let Ok(properties) = Properties::decode(record.property_octets()) else { return };
        let from = PublishRoute::from_octets(record.route).expect("records hold routes");
        let headers = death::headers(
            &properties,
            Death {
                reason: self.reason,
                queue: &self.queue.name,
                exchange: from.exchange(),
                routing_key: from.routing_key(),
                time_seconds: now.wall_millis / 1000,
                is_rekeyed: target.routing_key.is_some(),
            },
        );
        let key = target.routing_key.as_deref().unwrap_or(from.routing_key().as_bytes());
        let key = ShortStr::new(key).expect("a routing key is a short string");
        let properties = Properties { headers: Some(headers.as_table()), expiration: None, ..properties };
        let random = || engine.random_number();
        let routed = route_from(&vhost, &target.exchange, key.as_bytes(), &properties, &random);
        let Some(route) = routed else { return };
        let route = without_cycles(route, headers.as_table());
        let mut property_octets = Vec::new();
        properties.encode(&mut property_octets);
        let mut octets = Vec::new();
        let message = Message {
            route: PublishRoute::write(ShortStr::truncated(&target.exchange), key, &mut octets),
            property_octets: &property_octets,
            body: record.body(),
            arrived_millis: now.monotonic_millis,
            expires: false,
        };
        let octets_left = 0;
        batch.append(engine, &message, &Arc::new(route), octets_left);
    }
}

/// The route without queues that the message came through before, if nobody refused it on the way.
fn without_cycles(mut route: QueueRoute, headers: Table<'_>) -> QueueRoute {
    route.queues.retain(|queue| {
        let is_cycle = death::is_cycle(headers, &queue.name);
        if is_cycle {
            tracing::warn!(
                queue = &*queue.name,
                "a message that went round through dead-letter exchanges is dropped"
            );
        }
        !is_cycle
    });
    route
}

impl Scratch {
    /// Notes what a step on that queue buried.
    pub(super) fn note_dead(&mut self, queue: &Arc<QueueCell>) {
        let letters = self.effects.dead.drain(..).map(|(location, reason)| DeadLetter {
            queue: Arc::clone(queue),
            location,
            reason,
        });
        self.dead_letters.extend(letters);
    }
}
