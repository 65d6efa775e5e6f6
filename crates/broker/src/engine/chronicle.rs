//! Durable definitions on their way to the journal.
//!
//! Called under the lock of the topology that was changed, so that the journal has changes in their
//! order. Invariant: what a recovery finds is what was declared and not deleted, up to where the
//! journal is synced.

use super::{
    Engine,
    declare::QueueTopology,
    definition_entry::{BindingEntry, DefinitionEntry, DestinationNumber, ExchangeEntry, QueueEntry},
    queue_cell::QueueCell,
    vhost::Vhost,
};
use crate::{
    model::{
        binding::{Binding, Destination},
        topology::ExchangeId,
    },
    planted::{self, Bug},
    store::journal::Position,
};

impl Engine {
    fn put(&self, entry: &DefinitionEntry<'_>) -> Option<Position> {
        Some(self.durability.as_ref()?.put(entry.key(), entry.value()))
    }

    fn remove(&self, entry: &DefinitionEntry<'_>) -> Option<Position> {
        Some(self.durability.as_ref()?.remove(&entry.key()))
    }

    /// Up to where the journal has to be synced for all that was defined until now.
    pub(super) fn defined_until_now(&self) -> Option<Position> {
        self.durability.as_ref().map(|durability| durability.journal.end())
    }

    /// An exchange was declared.
    pub(super) fn note_exchange(
        &self,
        vhost: &Vhost,
        topology: &QueueTopology,
        id: ExchangeId,
    ) -> Option<Position> {
        let exchange = topology.exchange_of(id);
        let declaration = &exchange.declaration;
        if !declaration.durable {
            return None;
        }
        self.put(&DefinitionEntry::Exchange(ExchangeEntry {
            vhost: &vhost.name,
            name: &exchange.name,
            number: declaration.number,
            kind: &declaration.kind.to_string(),
            auto_delete: declaration.auto_delete,
            internal: declaration.internal,
            arguments: declaration.arguments.clone(),
        }))
    }

    /// Exchanges may have gone, one of them asked for and others with their last binding.
    pub(super) fn note_gone_exchanges(
        &self,
        vhost: &Vhost,
        topology: &mut QueueTopology,
    ) -> Option<Position> {
        let mut last = None;
        for (name, declaration) in topology.take_gone_exchanges() {
            last = self.remove(&DefinitionEntry::Exchange(ExchangeEntry {
                vhost: &vhost.name,
                name: &name,
                number: declaration.number,
                kind: "",
                auto_delete: false,
                internal: false,
                arguments: declaration.arguments,
            }));
        }
        last
    }

    /// A queue was declared.
    pub(super) fn note_queue(&self, vhost: &Vhost, queue: &QueueCell) -> Option<Position> {
        let durable = queue.durable.as_ref()?;
        self.durability.as_ref()?.add_queue(queue.number(), durable);
        self.put(&queue_entry(vhost, queue))
    }

    /// A queue was deleted, and exchanges may have gone with it.
    pub(super) fn note_gone_queue(
        &self,
        vhost: &Vhost,
        topology: &mut QueueTopology,
        queue: &QueueCell,
    ) -> Option<Position> {
        let exchanges = self.note_gone_exchanges(vhost, topology);
        if queue.durable.is_none() {
            return exchanges;
        }
        if !planted::is(Bug::DeletionNotKept) {
            self.remove(&queue_entry(vhost, queue));
        }
        Some(self.durability.as_ref()?.remove_queue(queue.number()))
    }

    /// A binding was made.
    pub(super) fn note_binding(
        &self,
        vhost: &Vhost,
        topology: &QueueTopology,
        binding: &Binding,
    ) -> Option<Position> {
        binding_entry(vhost, topology, binding).and_then(|entry| self.put(&DefinitionEntry::Binding(entry)))
    }

    /// Removes a binding if it is there, and its source if that goes with its last one.
    pub(super) fn unbind(
        &self,
        vhost: &Vhost,
        topology: &mut QueueTopology,
        binding: &Binding,
    ) -> Option<Position> {
        let entry = binding_entry(vhost, topology, binding);
        let lasts_at = entry.and_then(|entry| self.remove(&DefinitionEntry::Binding(entry)));
        topology.unbind(binding);
        self.note_gone_exchanges(vhost, topology).or(lasts_at)
    }
}

fn queue_entry<'a>(vhost: &'a Vhost, queue: &'a QueueCell) -> DefinitionEntry<'a> {
    DefinitionEntry::Queue(QueueEntry {
        vhost: &vhost.name,
        name: &queue.name,
        number: queue.serial,
        auto_delete: queue.declaration.auto_delete,
        arguments: queue.declaration.arguments.clone(),
    })
}

/// `None` for a binding that goes with the process, because one of its ends does.
fn binding_entry<'a>(
    vhost: &'a Vhost,
    topology: &QueueTopology,
    binding: &'a Binding,
) -> Option<BindingEntry<'a>> {
    let source = &topology.exchange_of(binding.source).declaration;
    let destination = match binding.destination {
        Destination::Queue(id) => {
            let queue = topology.queue_of(id);
            queue.durable.as_ref().map(|_| DestinationNumber::Queue(queue.serial))
        }
        Destination::Exchange(id) => {
            let exchange = &topology.exchange_of(id).declaration;
            exchange.durable.then_some(DestinationNumber::Exchange(exchange.number))
        }
    };
    source.durable.then_some(BindingEntry {
        vhost: &vhost.name,
        source: source.number,
        destination: destination?,
        routing_key: &binding.routing_key,
        arguments: binding.arguments.clone(),
    })
}
