//! Bindings, and what an exchange that remembers its last messages sends to a new one.
//!
//! What is remembered is noted and the binding made under one lock of the topology, so that a
//! message comes to the queue by one of the two ways and not by both. It is published anew after
//! that, some at a time, with a life that begins now. Invariant: the batch is empty when a binding
//! is made, for a publish is flushed before any other method.

use std::sync::{Arc, Weak};

use leveret_wire::{Properties, PublishRoute};

use super::{
    Engine,
    batch::{Message, PERSISTENT},
    connection::Connection,
    declare::QueueTopology,
    routes::QueueRoute,
};
use crate::{
    Location,
    model::{
        binding::{Binding, Destination},
        exchange::{CarbonCopies, Exchange, History, RoutingInput},
    },
    store::LastChunk,
};

/// Messages for which a way is looked up under one lock of the topology.
const RECALLED_AT_ONCE_MAX: usize = 256;

/// What a new binding gets of the past. What it leads to is kept and not looked up again by the
/// binding, which may be gone by then.
pub(super) struct Recalled {
    binding: Binding,
    onto: Onto,
    /// The oldest first. They are referenced once more.
    locations: Vec<Location>,
}

enum Onto {
    Queue(Arc<QueueRoute>),
    Exchange(Box<str>),
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
    pub(super) fn bind(&self, topology: &mut QueueTopology, binding: &Binding) -> Option<Recalled> {
        if !topology.bind(binding.clone()) {
            return None;
        }
        let history = topology.exchange_of(binding.source).history()?;
        let locations = history.copy(|locations| self.log.retain(locations.iter().copied()));
        let onto = match binding.destination {
            Destination::Queue(id) => {
                Onto::Queue(Arc::new(QueueRoute::to_queues(vec![Arc::clone(topology.queue_of(id))])))
            }
            Destination::Exchange(id) => Onto::Exchange(topology.exchange_of(id).name.clone()),
        };
        Some(Recalled { binding: binding.clone(), onto, locations })
    }
}

impl Recalled {
    /// Where a remembered message goes, if the binding wants it.
    fn route(&self, topology: &QueueTopology, input: RoutingInput<'_>) -> Option<Arc<QueueRoute>> {
        if !Exchange::recalls(&self.binding, input) {
            return None;
        }
        match &self.onto {
            Onto::Queue(route) => Some(Arc::clone(route)),
            Onto::Exchange(name) => {
                topology.exchange(name).map(|(id, _)| Arc::new(topology.route(id, input)))
            }
        }
    }
}

impl Connection {
    /// Publishes what a new binding gets of the past.
    pub(super) fn recall(&mut self, recalled: &Recalled) {
        for locations in recalled.locations.chunks(RECALLED_AT_ONCE_MAX) {
            self.recall_some(recalled, locations);
            self.engine.release(locations.iter().copied());
            if self.publishes.is_due() {
                self.flush_publishes_whole();
            }
        }
        self.flush_publishes_whole();
    }

    fn recall_some(&mut self, recalled: &Recalled, locations: &[Location]) {
        let vhost = self.open_vhost_handle();
        let topology = vhost.topology.read();
        let mut last_chunk = LastChunk::default();
        for &location in locations {
            let record = last_chunk.find(&self.engine.log, location).record(location);
            let Ok(properties) = Properties::decode(record.property_octets()) else { continue };
            let route = PublishRoute::from_octets(record.route).expect("records hold routes");
            let random = || self.engine.random_number();
            let input = RoutingInput {
                routing_key: route.routing_key().as_bytes(),
                copies: CarbonCopies::of(&properties),
                properties: Some(&properties),
                random: &random,
            };
            let Some(onward) = recalled.route(&topology, input) else { continue };
            let again = Message {
                route,
                property_octets: record.property_octets(),
                body: record.body(),
                arrived_millis: self.now.monotonic_millis,
                expires: properties.expiration.is_some(),
                is_persistent: properties.delivery_mode == Some(PERSISTENT),
            };
            let octets_left = 0;
            self.publishes.batch.append(&self.engine, &again, &onward, octets_left);
        }
    }
}
