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
    exchange::{
        Delay, DelayedAt, Exchange, ExchangeDeclaration, ExchangeKind, ExchangeSettings, History,
        RoutingInput, Version,
    },
    found::Found,
};
use crate::planted::{self, Bug};

/// A queue within its virtual host; free again once the queue is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub usize);

/// An exchange within its virtual host; free again once the exchange is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub usize);

/// Where copies of all messages go while that is switched on. Nobody else publishes to it.
pub const TRACE_EXCHANGE: &str = "amq.rabbitmq.trace";

/// The exchanges that every virtual host has.
pub const PREDECLARED: [(&str, ExchangeKind); 7] = [
    ("", ExchangeKind::Direct),
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
    (TRACE_EXCHANGE, ExchangeKind::Topic),
    ("amq.topic", ExchangeKind::Topic),
];

/// Where messages of one exchange and key go, and what that rests on.
#[derive(Debug, Clone)]
pub struct Route<H> {
    /// The queues, each once.
    pub queues: Vec<H>,
    /// What exchanges on the way remember.
    pub histories: Vec<Arc<History>>,
    /// Where the message has to wait before it goes on.
    pub delays: Vec<Delay>,
    /// The versions that held when the route was made.
    pub versions: SmallVec<[(Version, u64); 1]>,
}

impl<H> Route<H> {
    /// A route to these queues that rests on nothing.
    #[must_use]
    pub fn to_queues(queues: Vec<H>) -> Self {
        Self { queues, histories: Vec::new(), delays: Vec::new(), versions: SmallVec::new() }
    }

    /// Whether something beside queues holds the message.
    #[must_use]
    pub const fn has_holders(&self) -> bool {
        !self.histories.is_empty() || !self.delays.is_empty()
    }

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
    /// The exchanges whose alternate has that name, be it there or not.
    alternates: HashMap<Box<[u8]>, IndexSet<ExchangeId>>,
    queues: Slab<QueueNode<H>>,
    queue_names: HashMap<Box<str>, QueueId>,
    /// Durable exchanges that were removed since somebody asked.
    gone_exchanges: Vec<(Box<str>, ExchangeDeclaration)>,
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
            alternates: HashMap::new(),
            queues: Slab::new(),
            queue_names: HashMap::new(),
            gone_exchanges: Vec::new(),
        };
        for (number, (name, kind)) in (1..).zip(PREDECLARED) {
            let declaration = ExchangeDeclaration {
                number,
                kind,
                durable: true,
                auto_delete: false,
                internal: name == TRACE_EXCHANGE,
                arguments: TableBuf::new(),
                settings: ExchangeSettings::default(),
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

    /// The predeclared exchange of that number.
    #[must_use]
    pub fn predeclared(&self, number: u64) -> Option<ExchangeId> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        PREDECLARED.get(at).and_then(|(name, _)| self.exchange_names.get(*name).copied())
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
        if let Some(alternate) = self.exchange_of(id).alternate() {
            self.alternates.entry(alternate.into()).or_default().insert(id);
        }
        self.touch_those_with_alternate(name);
        id
    }

    /// Gives a predeclared exchange an alternate, as a policy may.
    pub fn set_alternate(&mut self, name: &str, alternate: &str) {
        let Some(&id) = self.exchange_names.get(name) else { return };
        let exchange = &mut self.exchanges[id.0].exchange;
        exchange.declaration.settings.alternate = Some(alternate.as_bytes().into());
        exchange.touch();
        self.alternates.entry(alternate.as_bytes().into()).or_default().insert(id);
    }

    /// Routes that ended where the alternate was missing go on now.
    fn touch_those_with_alternate(&self, name: &str) {
        for id in self.alternates.get(name.as_bytes()).into_iter().flatten() {
            self.exchange_of(*id).touch();
        }
    }

    fn forget_alternate(&mut self, id: ExchangeId, exchange: &Exchange) {
        let Some(name) = exchange.alternate() else { return };
        let Some(naming) = self.alternates.get_mut(name) else { return };
        naming.swap_remove(&id);
        if naming.is_empty() {
            self.alternates.remove(name);
        }
    }

    /// The exchange that gets what this one has no destination for, if it is there.
    fn alternate(&self, exchange: &Exchange) -> Option<ExchangeId> {
        let name = str::from_utf8(exchange.alternate()?).ok()?;
        self.exchange_names.get(name).copied()
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
            self.forget_alternate(id, &node.exchange);
            node.exchange.touch();
            node.exchange.history().into_iter().for_each(|history| history.close());
            for binding in node.exchange.bindings() {
                self.forget_inbound(binding);
            }
            for binding in node.inbound {
                doomed.extend(self.forget_outbound(&binding));
            }
            if node.exchange.declaration.durable {
                self.gone_exchanges.push((node.exchange.name, node.exchange.declaration));
            }
        }
    }

    /// Durable exchanges that were removed since this was last asked, whatever for.
    pub fn take_gone_exchanges(&mut self) -> Vec<(Box<str>, ExchangeDeclaration)> {
        std::mem::take(&mut self.gone_exchanges)
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

    /// Makes an exchange remember its messages there.
    pub fn remember_in(&mut self, id: ExchangeId, history: Arc<History>) {
        self.exchanges[id.0].exchange.remember_in(history);
    }

    /// Makes messages with a delay wait at an exchange.
    pub fn delay_at(&mut self, id: ExchangeId, at: DelayedAt) {
        self.exchanges[id.0].exchange.delay_at(at);
    }

    /// Adds a binding; false when it is there.
    pub fn bind(&mut self, binding: Binding) -> bool {
        let binding = Arc::new(binding);
        if !self.exchanges[binding.source.0].exchange.bind(&binding) {
            return false;
        }
        match binding.destination {
            Destination::Queue(id) => self.queues[id.0].inbound.insert(binding),
            Destination::Exchange(id) => self.exchanges[id.0].inbound.insert(binding),
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
    /// exchange that may be reached from it looks at more.
    #[must_use]
    pub fn routes_by_key(&self, from: ExchangeId) -> bool {
        let mut reached = Found::default();
        reached.insert(Destination::Exchange(from));
        let mut next = 0;
        while let Some(Destination::Exchange(id)) = reached.get(next) {
            next += 1;
            let exchange = &self.exchanges[id.0].exchange;
            if !exchange.routes_by_key() {
                return false;
            }
            reached.extend(exchange.onward().chain(self.alternate(exchange)).map(Destination::Exchange));
        }
        true
    }

    /// Follows the bindings from an exchange to queues, and where none wants the message the
    /// alternate exchange. The ways between exchanges may form cycles; each is passed once.
    #[must_use]
    pub fn route(&self, from: ExchangeId, input: RoutingInput<'_>) -> Route<H> {
        let mut found = Found::default();
        found.insert(Destination::Exchange(from));
        let (mut versions, mut histories, mut delays) = (SmallVec::new(), Vec::new(), Vec::new());
        let mut next = 0;
        while let Some(destination) = found.get(next) {
            next += 1;
            if let Destination::Exchange(id) = destination {
                let exchange = &self.exchanges[id.0].exchange;
                versions.push((Arc::clone(exchange.version()), exchange.version().load(Ordering::Acquire)));
                if let Some(delay) = exchange.delay(input) {
                    delays.push(delay);
                    continue;
                }
                histories.extend(exchange.history().cloned());
                let offered_before = found.offered();
                exchange.route(input, &mut found);
                let is_chained = next == 1 || !planted::is(Bug::AlternateNotChained);
                if found.offered() == offered_before && is_chained {
                    found.extend(self.alternate(exchange).map(Destination::Exchange));
                }
            }
        }
        let queues = found.iter().filter_map(|destination| match destination {
            Destination::Queue(id) => Some(self.queues[id.0].handle.clone()),
            Destination::Exchange(_) => None,
        });
        Route { queues: queues.collect(), histories, delays, versions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration(kind: ExchangeKind, auto_delete: bool) -> ExchangeDeclaration {
        let (arguments, settings) = (TableBuf::new(), ExchangeSettings::default());
        ExchangeDeclaration {
            number: 0,
            kind,
            durable: false,
            auto_delete,
            internal: false,
            arguments,
            settings,
        }
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
            self.kept_route(exchange, key).queues
        }

        fn kept_route(&self, exchange: ExchangeId, key: &str) -> Route<&'static str> {
            let routing_key = key.as_bytes();
            let input = RoutingInput { routing_key, copies: None, properties: None, random: &|| 0 };
            self.0.route(exchange, input)
        }

        /// A fanout exchange, which keeps what it gets only when a binding is made.
        fn with_alternate(&mut self, name: &str, alternate: &str) -> ExchangeId {
            let settings =
                ExchangeSettings { alternate: Some(alternate.as_bytes().into()), ..Default::default() };
            self.0.add_exchange(
                name,
                ExchangeDeclaration { settings, ..declaration(ExchangeKind::Fanout, false) },
            )
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
        let route = check.kept_route(one, "");
        assert!(route.is_current());
        let queue = Destination::Queue(check.0.add_queue("q", "q"));
        check.bind(other, queue, "");
        assert!(!route.is_current());
    }

    #[test]
    fn what_an_exchange_has_no_destination_for_goes_to_its_alternate() {
        let mut check = Check::new();
        let first = check.with_alternate("first", "second");
        let second = check.with_alternate("second", "third");
        let third = check.with_alternate("third", "first");
        assert!(check.route(first, "").is_empty(), "a cycle ends");
        let queue = Destination::Queue(check.0.add_queue("q", "q"));
        check.bind(third, queue, "");
        assert_eq!(check.route(first, ""), ["q"], "by two steps");
        let other = Destination::Queue(check.0.add_queue("r", "r"));
        check.bind(second, other, "");
        assert_eq!(check.route(first, ""), ["r"], "no further than where it is wanted");
    }

    #[test]
    fn a_way_that_was_gone_before_counts_as_a_destination() {
        let mut check = Check::new();
        let back = check.with_alternate("back", "amq.fanout");
        let front = check.exchange("front", ExchangeKind::Fanout, false);
        let queue = Destination::Queue(check.0.add_queue("q", "q"));
        let (fanout, _) = check.0.exchange("amq.fanout").unwrap();
        let other = Destination::Queue(check.0.add_queue("r", "r"));
        check.bind(fanout, other, "");
        check.bind(front, queue, "");
        check.bind(front, Destination::Exchange(back), "");
        assert_eq!(check.route(front, ""), ["q", "r"], "the alternate of an exchange on the way");
        check.bind(back, queue, "");
        assert_eq!(check.route(front, ""), ["q"]);
        check.0.unbind(&Binding {
            source: back,
            destination: queue,
            routing_key: (*b"").into(),
            arguments: TableBuf::new(),
        });
        check.bind(back, Destination::Exchange(front), "");
        assert_eq!(check.route(front, ""), ["q"], "a binding that leads in a circle is a destination");
    }

    #[test]
    fn a_route_is_stale_once_a_missing_alternate_appears_or_goes() {
        let mut check = Check::new();
        let front = check.with_alternate("front", "back");
        let route = check.kept_route(front, "");
        let back = check.exchange("back", ExchangeKind::Fanout, false);
        assert!(!route.is_current());
        let route = check.kept_route(front, "");
        assert!(route.is_current());
        check.0.remove_exchange(back);
        assert!(!route.is_current());
        check.0.remove_exchange(front);
        assert!(check.0.alternates.is_empty());
    }

    #[test]
    fn an_alternate_that_looks_at_headers_is_no_route_by_key() {
        let mut check = Check::new();
        let front = check.with_alternate("front", "amq.headers");
        assert!(!check.0.routes_by_key(front));
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
