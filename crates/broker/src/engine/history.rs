//! Bindings, and what an exchange that remembers its last messages sends to a new one.
//!
//! What was remembered is looked up and the binding made under one lock of the topology, so that a
//! message comes to the queue by one of the two ways and not by both. It is published anew, with a
//! life that begins now. Invariant: the batch is empty when a binding is made, for a publish is
//! flushed before any other method.

use std::sync::{Arc, Weak};

use leveret_wire::{Properties, PublishRoute};

use super::{Engine, batch::Message, connection::Connection, declare::QueueTopology, routes::QueueRoute};
use crate::{
    Location,
    model::{
        binding::Binding,
        exchange::{CarbonCopies, History, RoutingInput},
    },
    store::{Chunk, Record},
};

/// A remembered message on its way to a new binding.
pub(super) struct Recalled {
    location: Location,
    chunk: Arc<Chunk>,
    route: Arc<QueueRoute>,
}

impl Engine {
    /// The memory of an exchange.
    pub(super) fn new_history(self: &Arc<Self>, messages_max: usize) -> Arc<History> {
        let engine: Weak<Self> = Arc::downgrade(self);
        let release = move |locations: &mut dyn Iterator<Item = Location>| {
            if let Some(engine) = engine.upgrade() {
                engine.release(locations);
            }
        };
        Arc::new(History::new(messages_max, Box::new(release)))
    }

    /// Makes a binding, and returns what its source remembers for it.
    pub(super) fn bind(&self, topology: &mut QueueTopology, binding: &Binding) -> Vec<Recalled> {
        let mut recalled = Vec::new();
        if !topology.bind(binding.clone()) {
            return recalled;
        }
        let Some(history) = topology.exchange_of(binding.source).history() else { return recalled };
        let random = || self.random_number();
        history.for_each(|location| {
            let chunk = self.log.chunk(location);
            let record = chunk.record(location);
            let Some(properties) = properties(&record) else { return };
            let input = RoutingInput {
                routing_key: route(&record).routing_key().as_bytes(),
                copies: CarbonCopies::of(&properties),
                properties: Some(&properties),
                random: &random,
            };
            if let Some(route) = topology.route_by(binding, input) {
                recalled.push(Recalled { location, chunk: Arc::clone(&chunk), route: Arc::new(route) });
            }
        });
        recalled
    }
}

impl Connection {
    /// Publishes what a new binding gets of the past.
    pub(super) fn recall(&mut self, recalled: &[Recalled]) {
        for message in recalled {
            let record = message.chunk.record(message.location);
            let Some(properties) = properties(&record) else { continue };
            let again = Message {
                route: route(&record),
                property_octets: record.property_octets(),
                body: record.body(),
                arrived_millis: self.now.monotonic_millis,
                expires: properties.expiration.is_some(),
            };
            let octets_left = 0;
            self.publishes.batch.append(&self.engine, &again, &message.route, octets_left);
            if self.publishes.is_due() {
                self.flush_publishes_whole();
            }
        }
        self.flush_publishes_whole();
    }
}

fn route<'a>(record: &Record<'a>) -> PublishRoute<'a> {
    PublishRoute::from_octets(record.route).expect("records hold routes")
}

/// They were decoded when the message came, so that they are there.
fn properties<'a>(record: &Record<'a>) -> Option<Properties<'a>> {
    Properties::decode(record.property_octets()).ok()
}
