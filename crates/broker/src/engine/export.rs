//! Definitions go out: what the broker has now, in an order that does not depend on how it came
//! about.
//!
//! As RabbitMQ does it, exclusive queues and exchanges of the server's own are left out.
//! Invariant: an engine that is opened with them has the same ones.

use std::sync::atomic::Ordering;

use super::{Engine, declare::RESERVED_PREFIX, queue_cell::QueueCell, vhost::Vhost};
use crate::{
    definitions::{
        BindingDefinition, Definitions, DestinationKind, ExchangeDefinition, PermissionDefinition,
        PolicyDefinition, QueueDefinition, VhostDefinition,
    },
    model::{
        binding::{Binding, Destination},
        exchange::Exchange,
        policy::Policy,
    },
};

impl Engine {
    /// Users, virtual hosts and what is in them, as they are now.
    #[must_use]
    pub fn definitions(&self) -> Definitions {
        let mut definitions = Definitions {
            cluster_name: self.cluster_name.clone(),
            users: self.accounts.values().map(|account| account.user.clone()).collect(),
            ..Definitions::default()
        };
        for vhost in self.vhosts.read().values() {
            vhost.export_access(&mut definitions);
            vhost.export_topology(&mut definitions);
        }
        sort(&mut definitions);
        definitions
    }
}

fn sort(definitions: &mut Definitions) {
    definitions.users.sort_by(|one, other| one.name.cmp(&other.name));
    definitions.vhosts.sort_by(|one, other| one.name.cmp(&other.name));
    definitions.permissions.sort_by_key(|granted| (granted.vhost.clone(), granted.user.clone()));
    definitions
        .topic_permissions
        .sort_by_key(|granted| (granted.vhost.clone(), granted.user.clone(), granted.exchange.clone()));
    definitions
        .policies
        .sort_by_key(|policy| (policy.vhost.clone(), policy.is_operators, policy.policy.name.clone()));
    definitions.exchanges.sort_by_key(|exchange| (exchange.vhost.clone(), exchange.name.clone()));
    definitions.queues.sort_by_key(|queue| (queue.vhost.clone(), queue.name.clone()));
    definitions.bindings.sort_by_key(|binding| {
        let ends = (binding.source.clone(), binding.destination_kind, binding.destination.clone());
        let arguments = binding.arguments.as_table().as_bytes().to_vec();
        (binding.vhost.clone(), ends, binding.routing_key.clone(), arguments)
    });
}

impl Vhost {
    fn export_access(&self, definitions: &mut Definitions) {
        let tracing = self.is_traced.load(Ordering::Relaxed);
        definitions.vhosts.push(VhostDefinition { tracing, ..self.definition.clone() });
        definitions.permissions.extend(self.permissions.iter().map(|(user, permission)| {
            PermissionDefinition {
                user: user.clone(),
                vhost: self.name.clone(),
                permission: (**permission).clone(),
            }
        }));
        definitions.topic_permissions.extend_from_slice(&self.topic_permissions);
        let (own, operators) = self.policies.all();
        for (policies, is_operators) in [(own, false), (operators, true)] {
            let policy = |policy: &Policy| PolicyDefinition {
                vhost: self.name.clone(),
                is_operators,
                policy: policy.clone(),
            };
            definitions.policies.extend(policies.iter().map(policy));
        }
    }

    fn export_topology(&self, definitions: &mut Definitions) {
        let topology = self.topology.read();
        for exchange in topology.exchanges() {
            let bindings = exchange.bindings().iter();
            definitions.bindings.extend(bindings.filter_map(|binding| {
                let (destination_kind, destination) = match binding.destination {
                    Destination::Exchange(id) => {
                        (DestinationKind::Exchange, topology.exchange_of(id).name.clone())
                    }
                    Destination::Queue(id) => {
                        let queue = topology.queue_of(id);
                        (DestinationKind::Queue, shared_name(queue)?)
                    }
                };
                Some(self.binding(exchange, binding, destination_kind, destination))
            }));
            if !exchange.name.is_empty() && !exchange.name.starts_with(RESERVED_PREFIX) {
                definitions.exchanges.push(self.exchange(exchange));
            }
        }
        definitions.queues.extend(topology.queues_from(0).filter_map(|(_, queue)| self.queue(queue)));
    }

    fn exchange(&self, exchange: &Exchange) -> ExchangeDefinition {
        let declaration = &exchange.declaration;
        ExchangeDefinition {
            vhost: self.name.clone(),
            name: exchange.name.clone(),
            kind: declaration.kind.to_string().into(),
            durable: declaration.durable,
            auto_delete: declaration.auto_delete,
            internal: declaration.internal,
            arguments: declaration.arguments.clone(),
        }
    }

    fn queue(&self, queue: &QueueCell) -> Option<QueueDefinition> {
        Some(QueueDefinition {
            vhost: self.name.clone(),
            name: shared_name(queue)?,
            durable: queue.declaration.durable,
            auto_delete: queue.declaration.auto_delete,
            arguments: queue.declaration.arguments.clone(),
        })
    }

    fn binding(
        &self,
        source: &Exchange,
        binding: &Binding,
        destination_kind: DestinationKind,
        destination: Box<str>,
    ) -> BindingDefinition {
        BindingDefinition {
            vhost: self.name.clone(),
            source: source.name.clone(),
            destination,
            destination_kind,
            routing_key: binding.routing_key.clone(),
            arguments: binding.arguments.clone(),
        }
    }
}

/// The name of a queue that several connections may use and the server did not name: such a one
/// cannot be declared again.
fn shared_name(queue: &QueueCell) -> Option<Box<str>> {
    let is_shared = queue.declaration.owner.is_none() && !queue.name.starts_with(RESERVED_PREFIX);
    is_shared.then(|| queue.name.clone())
}
