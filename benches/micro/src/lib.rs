//! What the benches of this folder have in common: a topology that is filled by name.
//!
//! Leaves what is measured to `benches/`. Invariant: what is made here is the same in every run.

pub mod topics;

use leveret_broker::model::{
    binding::{Binding, Destination},
    exchange::RoutingInput,
    topology::{ExchangeId, QueueId, Topology},
};
use leveret_wire::{Properties, Table, TableBuf};

/// A virtual host's map whose queues are numbers.
#[derive(Debug, Default)]
pub struct Map {
    topology: Topology<u32>,
}

impl Map {
    /// A map with so many queues.
    #[must_use]
    pub fn with_queues(queues: u32) -> (Self, Vec<QueueId>) {
        let mut map = Self::default();
        let ids = (0..queues).map(|queue| map.topology.add_queue(&format!("q{queue}"), queue)).collect();
        (map, ids)
    }

    /// The exchange of that name, which must be there.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn exchange(&self, name: &str) -> ExchangeId {
        self.topology.exchange(name).expect("predeclared").0
    }

    /// Binds a queue.
    pub fn bind(&mut self, source: ExchangeId, key: &str, arguments: TableBuf, queue: QueueId) {
        let destination = Destination::Queue(queue);
        self.topology.bind(Binding { source, destination, routing_key: key.as_bytes().into(), arguments });
    }

    /// How many queues a message goes to; they are looked up as the engine does for a route it has
    /// not kept.
    #[must_use]
    pub fn route(&self, from: ExchangeId, key: &str, headers: Table<'_>) -> usize {
        let properties = Properties { headers: Some(headers), ..Properties::default() };
        let input = RoutingInput {
            routing_key: key.as_bytes(),
            copies: None,
            properties: Some(&properties),
            random: &|| 0,
        };
        self.topology.route(from, input).queues.len()
    }
}
