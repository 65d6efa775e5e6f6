//! A virtual host's exchanges, queues and bindings, and the way from an exchange to queues.
//!
//! Knows a queue as a handle that it hands out in routes and never looks into. Tables change in
//! place; whoever kept a route compares versions. Invariant: a binding stands both with its
//! source and with its destination, or nowhere.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use indexmap::IndexSet;
use leveret_wire::TableBuf;
use slab::Slab;
use smallvec::SmallVec;

use super::{
    binding::{Binding, Destination},
    exchange::{Exchange, ExchangeDeclaration, ExchangeKind, RoutingInput, Version},
    found::Found,
};

/// A queue within its virtual host; free again once the queue is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub usize);

/// An exchange within its virtual host; free again once the exchange is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub usize);

/// The exchanges that every virtual host has.
pub const PREDECLARED: [(&str, ExchangeKind); 6] = [
    ("", ExchangeKind::Direct),
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
    ("amq.topic", ExchangeKind::Topic),
];

/// Where messages of one exchange and key go, and what that rests on.
#[derive(Debug)]
pub struct Route<H> {
    /// The queues, each once.
    pub queues: Vec<H>,
    /// The versions that held when the route was made.
    pub versions: SmallVec<[(Version, u64); 1]>,
}

impl<H> Route<H> {
    /// Whether nothing that the route rests on has changed.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.versions.iter().all(|(version, seen)| version.load(Ordering::Acquire) == *seen)
    }
}

#[derive(Debug)]
struct ExchangeNode {
    exchange: Exchange,
    inbound: IndexSet<Arc<Binding>>,
}

#[derive(Debug)]
struct QueueNode<H> {
    name: Box<str>,
    handle: H,
    inbound: IndexSet<Arc<Binding>>,
}

/// A virtual host's map. The maps by name are never iterated, so their seeds decide nothing.
#[derive(Debug)]
pub struct Topology<H> {
    exchanges: Slab<ExchangeNode>,
    exchange_names: HashMap<Box<str>, ExchangeId>,
    queues: Slab<QueueNode<H>>,
    queue_names: HashMap<Box<str>, QueueId>,
}

impl<H: Clone> Default for Topology<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Clone> Topology<H> {
    /// The predeclared exchanges and nothing else.
    #[must_use]
    pub fn new() -> Self {
        let mut topology = Self {
            exchanges: Slab::new(),
            exchange_names: HashMap::new(),
            queues: Slab::new(),
            queue_names: HashMap::new(),
        };
        for (name, kind) in PREDECLARED {
            let declaration = ExchangeDeclaration {
                kind,
                durable: true,
                auto_delete: false,
                internal: false,
                arguments: TableBuf::new(),
            };
            topology.add_exchange(name, declaration);
        }
        topology
    }

    /// The exchange of that name.
    #[must_use]
    pub fn exchange(&self, name: &str) -> Option<(ExchangeId, &Exchange)> {
        let id = *self.exchange_names.get(name)?;
        Some((id, &self.exchanges[id.0].exchange))
    }

    /// The exchange of that id, which must be there.
    #[must_use]
    pub fn exchange_of(&self, id: ExchangeId) -> &Exchange {
        &self.exchanges[id.0].exchange
    }

    /// All exchanges.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter().map(|(_, node)| &node.exchange)
    }

    /// Adds an exchange of a name that is free.
    pub fn add_exchange(&mut self, name: &str, declaration: ExchangeDeclaration) -> ExchangeId {
        let exchange = Exchange::new(name, declaration);
        let id = ExchangeId(self.exchanges.insert(ExchangeNode { exchange, inbound: IndexSet::new() }));
        let before = self.exchange_names.insert(name.into(), id);
        assert!(before.is_none(), "the name of a new exchange is free");
        id
    }

    /// Whether any binding leads from the exchange.
    #[must_use]
    pub fn exchange_in_use(&self, id: ExchangeId) -> bool {
        !self.exchanges[id.0].exchange.bindings().is_empty()
    }

    /// Removes an exchange with all its bindings, and the auto-delete exchanges whose last
    /// binding led to it.
    pub fn remove_exchange(&mut self, id: ExchangeId) {
        let mut doomed = vec![id];
        while let Some(id) = doomed.pop() {
            let Some(node) = self.exchanges.try_remove(id.0) else { continue };
            self.exchange_names.remove(&node.exchange.name);
            node.exchange.touch();
            for binding in node.exchange.bindings() {
                self.forget_inbound(binding);
            }
            for binding in node.inbound {
                doomed.extend(self.forget_outbound(&binding));
            }
        }
    }

    /// The queue of that name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<(QueueId, &H)> {
        let id = *self.queue_names.get(name)?;
        Some((id, &self.queues[id.0].handle))
    }

    /// The handle of the queue of that id, which must be there.
    #[must_use]
    pub fn queue_of(&self, id: QueueId) -> &H {
        &self.queues[id.0].handle
    }

    /// How many queues there are.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// The queues' handles in the order of their ids, from that id on.
    pub fn queues_from(&self, first: usize) -> impl Iterator<Item = (usize, &H)> {
        (first..self.queues.capacity()).filter_map(|id| self.queues.get(id).map(|node| (id, &node.handle)))
    }

    /// Adds a queue of a name that is free.
    pub fn add_queue(&mut self, name: &str, handle: H) -> QueueId {
        let id =
            QueueId(self.queues.insert(QueueNode { name: name.into(), handle, inbound: IndexSet::new() }));
        let before = self.queue_names.insert(name.into(), id);
        assert!(before.is_none(), "the name of a new queue is free");
        id
    }

    /// Removes a queue with the bindings that lead to it, and the auto-delete exchanges that
    /// have no other.
    pub fn remove_queue(&mut self, id: QueueId) {
        let node = self.queues.remove(id.0);
        self.queue_names.remove(&node.name);
        for binding in node.inbound {
            if let Some(exchange) = self.forget_outbound(&binding) {
                self.remove_exchange(exchange);
            }
        }
    }

    /// Adds a binding; nothing happens when it is there.
    pub fn bind(&mut self, binding: Binding) {
        let binding = Arc::new(binding);
        if self.exchanges[binding.source.0].exchange.bind(&binding) {
            match binding.destination {
                Destination::Queue(id) => self.queues[id.0].inbound.insert(binding),
                Destination::Exchange(id) => self.exchanges[id.0].inbound.insert(binding),
            };
        }
    }

    /// Whether the binding is there.
    #[must_use]
    pub fn is_bound(&self, binding: &Binding) -> bool {
        self.exchange_of(binding.source).bindings().contains(binding)
    }

    /// Removes a binding if it is there, and its source if that is an auto-delete exchange and
    /// has no other.
    pub fn unbind(&mut self, binding: &Binding) {
        if !self.is_bound(binding) {
            return;
        }
        self.forget_inbound(binding);
        if let Some(exchange) = self.forget_outbound(binding) {
            self.remove_exchange(exchange);
        }
    }

    fn forget_inbound(&mut self, binding: &Binding) {
        let inbound = match binding.destination {
            Destination::Queue(id) => self.queues.get_mut(id.0).map(|node| &mut node.inbound),
            Destination::Exchange(id) => self.exchanges.get_mut(id.0).map(|node| &mut node.inbound),
        };
        if let Some(inbound) = inbound {
            inbound.swap_remove(binding);
        }
    }

    /// Takes the binding from its source, and returns the source if it is to go with it.
    fn forget_outbound(&mut self, binding: &Binding) -> Option<ExchangeId> {
        let exchange = &mut self.exchanges.get_mut(binding.source.0)?.exchange;
        exchange.unbind(binding);
        let abandoned = exchange.declaration.auto_delete && exchange.bindings().is_empty();
        abandoned.then_some(binding.source)
    }

    /// Whether routes from the exchange depend on the routing key alone: neither it nor an
    /// exchange that may be reached from it looks at headers.
    #[must_use]
    pub fn routes_by_key(&self, from: ExchangeId) -> bool {
        let mut reached = Found::default();
        reached.insert(Destination::Exchange(from));
        let mut next = 0;
        while let Some(Destination::Exchange(id)) = reached.get(next) {
            next += 1;
            let exchange = &self.exchanges[id.0].exchange;
            if exchange.declaration.kind.looks_at_headers() {
                return false;
            }
            reached.extend(exchange.onward().map(Destination::Exchange));
        }
        true
    }

    /// Follows the bindings from an exchange to queues. Bindings between exchanges may form
    /// cycles; each exchange is passed once.
    #[must_use]
    pub fn route(&self, from: ExchangeId, input: RoutingInput<'_>) -> Route<H> {
        let mut found = Found::default();
        found.insert(Destination::Exchange(from));
        let mut versions = SmallVec::new();
        let mut next = 0;
        while let Some(destination) = found.get(next) {
            next += 1;
            if let Destination::Exchange(id) = destination {
                let exchange = &self.exchanges[id.0].exchange;
                versions.push((Arc::clone(exchange.version()), exchange.version().load(Ordering::Acquire)));
                exchange.route(input, &mut found);
            }
        }
        let queues = found.iter().filter_map(|destination| match destination {
            Destination::Queue(id) => Some(self.queues[id.0].handle.clone()),
            Destination::Exchange(_) => None,
        });
        Route { queues: queues.collect(), versions }
    }
}

#[cfg(test)]
mod tests {
    use leveret_wire::Table;

    use super::*;

    fn declaration(kind: ExchangeKind, auto_delete: bool) -> ExchangeDeclaration {
        ExchangeDeclaration { kind, durable: false, auto_delete, internal: false, arguments: TableBuf::new() }
    }

    struct Check(Topology<&'static str>);

    impl Check {
        fn new() -> Self {
            Self(Topology::new())
        }

        fn exchange(&mut self, name: &str, kind: ExchangeKind, auto_delete: bool) -> ExchangeId {
            self.0.add_exchange(name, declaration(kind, auto_delete))
        }

        fn bind(&mut self, source: ExchangeId, destination: Destination, key: &str) -> Binding {
            let routing_key = key.as_bytes().into();
            let binding = Binding { source, destination, routing_key, arguments: TableBuf::new() };
            self.0.bind(binding.clone());
            binding
        }

        fn route(&self, exchange: ExchangeId, key: &str) -> Vec<&'static str> {
            let input = RoutingInput { routing_key: key.as_bytes(), headers: Table::EMPTY };
            self.0.route(exchange, input).queues
        }
    }

    #[test]
    fn exchanges_bound_in_a_cycle_pass_a_message_once() {
        let mut check = Check::new();
        let one = check.exchange("one", ExchangeKind::Fanout, false);
        let other = check.exchange("other", ExchangeKind::Topic, false);
        let queue = Destination::Queue(check.0.add_queue("q", "q"));
        check.bind(one, Destination::Exchange(other), "");
        check.bind(other, Destination::Exchange(one), "#");
        check.bind(one, queue, "");
        check.bind(other, queue, "a.*");
        assert_eq!(check.route(one, "a.b"), ["q"]);
        assert_eq!(check.route(other, "x"), ["q"]);
    }

    #[test]
    fn a_route_is_stale_once_an_exchange_on_its_way_changes() {
        let mut check = Check::new();
        let one = check.exchange("one", ExchangeKind::Fanout, false);
        let other = check.exchange("other", ExchangeKind::Fanout, false);
        check.bind(one, Destination::Exchange(other), "");
        let route = check.0.route(one, RoutingInput { routing_key: b"", headers: Table::EMPTY });
        assert!(route.is_current());
        let queue = Destination::Queue(check.0.add_queue("q", "q"));
        check.bind(other, queue, "");
        assert!(!route.is_current());
    }

    #[test]
    fn auto_delete_exchanges_go_with_their_last_binding_and_take_others_along() {
        let mut check = Check::new();
        let front = check.exchange("front", ExchangeKind::Fanout, true);
        let back = check.exchange("back", ExchangeKind::Fanout, true);
        let queue = check.0.add_queue("q", "q");
        check.bind(front, Destination::Exchange(back), "");
        check.bind(back, Destination::Queue(queue), "");
        check.bind(back, Destination::Queue(queue), "second");
        check.0.remove_queue(queue);
        assert!(check.0.exchange("back").is_none() && check.0.exchange("front").is_none());
    }

    #[test]
    fn unbinding_takes_one_of_several_bindings() {
        let mut check = Check::new();
        let direct = check.exchange("direct", ExchangeKind::Direct, false);
        let queue = Destination::Queue(check.0.add_queue("q", "q"));
        let binding = check.bind(direct, queue, "a");
        check.bind(direct, queue, "b");
        check.0.unbind(&binding);
        assert!(check.route(direct, "a").is_empty());
        assert_eq!(check.route(direct, "b"), ["q"]);
        check.0.unbind(&binding);
        assert!(check.0.exchange("direct").is_some());
    }
}
