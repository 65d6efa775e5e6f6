//! Exchanges: which destinations want a message, by the exchange's type.
//!
//! One file a type. Knows keys, headers and destinations; never queues' contents.

pub mod consistent_hash;
mod delay;
pub mod direct;
mod hash;
pub mod headers;
mod input;
mod modulus_hash;
mod random;
mod recent_history;
mod settings;
pub mod topic;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use indexmap::IndexSet;
use leveret_wire::{ShortStr, Table, TableBuf};

pub use self::{
    consistent_hash::HashOn,
    delay::{DELAY_MILLIS_MAX, Delay, DelayQueue, DelayedAt, delay_millis, waited},
    input::{CarbonCopies, RoutingInput},
    recent_history::{History, is_remembered},
    settings::{ALTERNATE, ExchangeSettings},
};
use self::{consistent_hash::Ring, direct::DirectTable, headers::HeadersTable, topic::TopicTable};
use super::{
    binding::{Binding, Destination},
    destinations::DestinationSet,
    found::Found,
    topology::ExchangeId,
};
use crate::{
    planted::{self, Bug},
    refusal::Refusal,
    sync::AtomicU64,
};

/// The type of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// The routing key equals the binding key.
    Direct,
    /// Everything goes everywhere.
    Fanout,
    /// Words and wildcards, see [`topic`].
    Topic,
    /// Headers decide, see [`headers`].
    Headers,
    /// A hash shares messages out by weight, see [`consistent_hash`].
    ConsistentHash,
    /// A hash shares messages out among the bindings.
    ModulusHash,
    /// Each message goes by one binding, drawn at random.
    Random,
    /// New bindings get the last messages.
    RecentHistory,
    /// Messages wait, and go on by another type.
    Delayed,
}

impl ExchangeKind {
    /// The kind of that name in `exchange.declare`.
    #[must_use]
    pub fn from_name(name: ShortStr<'_>) -> Option<Self> {
        match name.as_bytes() {
            b"direct" => Some(Self::Direct),
            b"fanout" => Some(Self::Fanout),
            b"topic" => Some(Self::Topic),
            b"headers" => Some(Self::Headers),
            b"x-consistent-hash" => Some(Self::ConsistentHash),
            b"x-modulus-hash" => Some(Self::ModulusHash),
            b"x-random" => Some(Self::Random),
            b"x-recent-history" => Some(Self::RecentHistory),
            b"x-delayed-message" => Some(Self::Delayed),
            _ => None,
        }
    }

    /// Checks a binding's key and arguments before it is made.
    ///
    /// # Errors
    /// What an exchange of this kind has against them, in RabbitMQ's words.
    pub fn check_binding(self, routing_key: &[u8], arguments: Table<'_>) -> Result<(), Refusal> {
        match self {
            Self::Headers => headers::validate(arguments),
            Self::ConsistentHash => consistent_hash::weight(routing_key).map(drop),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::ModulusHash => "x-modulus-hash",
            Self::Random => "x-random",
            Self::RecentHistory => "x-recent-history",
            Self::Delayed => "x-delayed-message",
        })
    }
}

/// Changes whenever what an exchange or a queue stands for in a route changes. Whoever kept a
/// route compares.
pub type Version = Arc<AtomicU64>;

/// How an exchange was declared.
#[derive(Debug, Clone)]
pub struct ExchangeDeclaration {
    /// Never that of another exchange of the broker, of those that were deleted among them. That of a
    /// predeclared one is the same in every virtual host.
    pub number: u64,
    /// The type.
    pub kind: ExchangeKind,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Takes messages from exchanges only.
    pub internal: bool,
    /// As declared.
    pub arguments: TableBuf,
    /// What the arguments ask for.
    pub settings: ExchangeSettings,
}

/// An exchange and its bindings.
#[derive(Debug)]
pub struct Exchange {
    /// The name; `""` is the default exchange.
    pub name: Box<str>,
    /// How it was declared.
    pub declaration: ExchangeDeclaration,
    version: Version,
    table: BindingTable,
    bindings: IndexSet<Arc<Binding>>,
    /// Exchanges that bindings lead on to; few, where bindings to queues may be many.
    onward: DestinationSet,
    history: Option<Arc<History>>,
    delayed_at: Option<Arc<DelayedAt>>,
}

#[derive(Debug)]
enum BindingTable {
    Direct(DirectTable),
    Fanout(DestinationSet),
    Topic(TopicTable),
    Headers(HeadersTable),
    Ring(Ring),
    /// The bindings themselves are all that there is to know.
    ModulusHash,
    /// Likewise.
    Random,
    RecentHistory(TopicTable),
}

impl BindingTable {
    /// An empty one. A delayed exchange has that of the type which it routes by.
    fn new(kind: ExchangeKind) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(DirectTable::default()),
            ExchangeKind::Fanout | ExchangeKind::Delayed => Self::Fanout(DestinationSet::default()),
            ExchangeKind::Topic => Self::Topic(TopicTable::default()),
            ExchangeKind::Headers => Self::Headers(HeadersTable::default()),
            ExchangeKind::ConsistentHash => Self::Ring(Ring::default()),
            ExchangeKind::ModulusHash => Self::ModulusHash,
            ExchangeKind::Random => Self::Random,
            ExchangeKind::RecentHistory => Self::RecentHistory(TopicTable::default()),
        }
    }
}

impl Exchange {
    /// An exchange without bindings.
    #[must_use]
    pub fn new(name: &str, declaration: ExchangeDeclaration) -> Self {
        let table = BindingTable::new(declaration.settings.delayed_kind.unwrap_or(declaration.kind));
        Self {
            name: name.into(),
            declaration,
            version: Version::default(),
            table,
            bindings: IndexSet::new(),
            onward: DestinationSet::default(),
            history: None,
            delayed_at: None,
        }
    }

    /// Makes the exchange remember its messages there.
    pub fn remember_in(&mut self, history: Arc<History>) {
        self.history = Some(history);
        self.touch();
    }

    /// Makes messages with a delay wait there.
    pub fn delay_at(&mut self, at: DelayedAt) {
        self.delayed_at = Some(Arc::new(at));
        self.touch();
    }

    /// The delay that a message is to have before it is routed here.
    #[must_use]
    pub fn delay(&self, input: RoutingInput<'_>) -> Option<Delay> {
        let at = self.delayed_at.as_ref()?;
        delay_millis(input.headers()).map(|millis| Delay { at: Arc::clone(at), millis })
    }

    /// The type that messages are routed by.
    #[must_use]
    pub fn routing_kind(&self) -> ExchangeKind {
        self.declaration.settings.delayed_kind.unwrap_or(self.declaration.kind)
    }

    /// What it remembers, if it does.
    #[must_use]
    pub const fn history(&self) -> Option<&Arc<History>> {
        self.history.as_ref()
    }

    /// The version that stands while its bindings do.
    #[must_use]
    pub const fn version(&self) -> &Version {
        &self.version
    }

    /// Makes every route that was kept through this exchange stale.
    pub fn touch(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The name of the exchange that gets what this one has no destination for.
    #[must_use]
    pub fn alternate(&self) -> Option<&[u8]> {
        self.declaration.settings.alternate.as_deref()
    }

    /// The bindings from this exchange.
    #[must_use]
    pub const fn bindings(&self) -> &IndexSet<Arc<Binding>> {
        &self.bindings
    }

    /// Adds a binding; false when it was there.
    pub fn bind(&mut self, binding: &Arc<Binding>) -> bool {
        if !self.bindings.insert(Arc::clone(binding)) {
            return false;
        }
        match &mut self.table {
            BindingTable::Direct(table) => table.insert(binding),
            BindingTable::Fanout(set) => set.insert(binding.destination),
            BindingTable::Topic(table) => table.insert(&binding.routing_key, binding.destination),
            BindingTable::Headers(table) => table.insert(binding),
            BindingTable::Ring(ring) => ring.insert(binding),
            BindingTable::ModulusHash | BindingTable::Random => {}
            BindingTable::RecentHistory(table) => {
                table.insert(recent_history::pattern(&binding.routing_key), binding.destination);
            }
        }
        if let Destination::Exchange(_) = binding.destination {
            self.onward.insert(binding.destination);
        }
        self.touch();
        true
    }

    /// Removes a binding; false when it was not there.
    pub fn unbind(&mut self, binding: &Binding) -> bool {
        if !self.bindings.swap_remove(binding) {
            return false;
        }
        match &mut self.table {
            BindingTable::Direct(table) => table.remove(binding),
            BindingTable::Fanout(set) => set.remove(binding.destination),
            BindingTable::Topic(table) => table.remove(&binding.routing_key, binding.destination),
            BindingTable::Headers(table) => table.remove(binding),
            BindingTable::Ring(ring) => ring.remove(binding),
            BindingTable::ModulusHash | BindingTable::Random => {}
            BindingTable::RecentHistory(table) => {
                table.remove(recent_history::pattern(&binding.routing_key), binding.destination);
            }
        }
        if let Destination::Exchange(_) = binding.destination {
            self.onward.remove(binding.destination);
        }
        self.touch();
        true
    }

    /// The exchanges that bindings lead on to.
    pub fn onward(&self) -> impl Iterator<Item = ExchangeId> {
        self.onward.iter().filter_map(|destination| match destination {
            Destination::Exchange(id) => Some(id),
            Destination::Queue(_) => None,
        })
    }

    /// Whether routes depend on the routing key alone, and so can be kept by key.
    #[must_use]
    pub fn routes_by_key(&self) -> bool {
        match self.declaration.kind {
            ExchangeKind::Headers | ExchangeKind::Random | ExchangeKind::Delayed => false,
            ExchangeKind::ConsistentHash => self.declaration.settings.hash_on == HashOn::RoutingKey,
            ExchangeKind::Direct
            | ExchangeKind::Fanout
            | ExchangeKind::Topic
            | ExchangeKind::ModulusHash
            | ExchangeKind::RecentHistory => true,
        }
    }

    /// Whether one binding of an exchange that remembers wants a message of the past.
    #[must_use]
    pub fn recalls(binding: &Binding, input: RoutingInput<'_>) -> bool {
        let (mut table, mut found) = (TopicTable::default(), Found::default());
        table.insert(recent_history::pattern(&binding.routing_key), binding.destination);
        input.for_each_key(|key| table.route(key, &mut found));
        !found.is_empty() || planted::is(Bug::HistoryKeyIgnored)
    }

    /// Adds the destinations of a message to `found`.
    pub fn route(&self, input: RoutingInput<'_>, found: &mut Found) {
        match &self.table {
            BindingTable::Direct(table) => input.for_each_key(|key| table.route(key, found)),
            BindingTable::Fanout(set) => set.collect_into(found),
            BindingTable::Topic(table) | BindingTable::RecentHistory(table) => {
                input.for_each_key(|key| table.route(key, found));
            }
            BindingTable::Headers(table) => table.route(input.headers(), found),
            BindingTable::Ring(ring) => ring.route(&self.declaration.settings.hash_on, input, found),
            BindingTable::ModulusHash => modulus_hash::route(&self.bindings, input, found),
            BindingTable::Random => random::route(&self.bindings, input, found),
        }
    }
}
