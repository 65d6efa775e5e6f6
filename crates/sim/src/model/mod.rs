//! The reference model: what the messaging rules allow the broker to say.
//!
//! It is told, in the order of the engine's turns, which octets the engine took from a
//! connection and which it put into its output. Commands change the model when they are taken;
//! what is said is checked against it. Where rules leave the order open (which consumer gets a
//! message, how far the broker is ahead of a consumer's socket) the model keeps what may be and
//! narrows it by what it hears; when all is quiet nothing is open any more.
//! Invariant: a message that was taken for a queue is waiting there, or held by a channel, or
//! acknowledged, or dropped by a rule.

mod alarm;
mod commands;
mod confirms;
mod connection;
mod consume;
mod death;
mod deliver;
mod exchanges;
mod graves;
mod handshake;
mod hear;
mod hidden;
mod limits;
mod lives;
mod publish;
mod queue;
mod queues;
mod quiet;
mod round;
mod routing;
mod settle;
mod teardown;
mod terms;
mod turn;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use leveret_wire::Properties;

pub(crate) use self::death::Reason;
pub use self::{
    connection::{Capabilities, Phase},
    quiet::Facts,
    round::Round,
    turn::Circumstances,
};
use self::{
    connection::{Channel, Connection},
    consume::Consumer,
    death::History,
    exchanges::Exchanges,
    graves::Letter,
    queue::Queue,
};
use crate::counts::{Counts, Event};

/// A connection; numbers are not used again within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey(pub u32);

/// A channel of a connection.
type ChannelKey = (ConnectionKey, u16);

/// A queue from its declaration to its deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct QueueKey(u64);

/// A consumer from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ConsumerKey(u64);

/// What tells a message apart: its number, and how it died so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    id: u64,
    history: u64,
}

/// A message as it was published.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    id: u64,
    exchange: Vec<u8>,
    routing_key: Vec<u8>,
    /// That one, and those of `CC` and `BCC`.
    keys: Vec<Vec<u8>>,
    /// As receivers see them.
    property_octets: Vec<u8>,
    /// Octets that receivers do not see.
    hidden_octets: usize,
    body: Vec<u8>,
    history: History,
}

impl Message {
    fn name(&self) -> Name {
        Name { id: self.id, history: self.history.digest() }
    }

    fn properties(&self) -> Properties<'_> {
        Properties::decode(&self.property_octets).unwrap_or_default()
    }

    fn priority(&self) -> u8 {
        self.properties().priority.unwrap_or(0)
    }

    fn expiration(&self) -> Option<Vec<u8>> {
        self.properties().expiration.map(|expiration| expiration.as_bytes().to_vec())
    }
}

/// What the broker was set up to take.
#[derive(Debug, Clone, Copy, Default)]
pub struct BrokerLimits {
    /// The largest body.
    pub message_octets_max: u64,
    /// Channels of a connection.
    pub channel_max: u16,
    /// Publishers wait above this.
    pub memory_watermark_octets: u64,
}

/// The model of the whole broker.
#[derive(Debug, Default)]
pub struct Model {
    counts: Counts,
    /// Turns of the engine so far.
    turns: u64,
    /// The clocks in the turn at hand.
    now_millis: u64,
    now_wall_millis: u64,
    /// Changes to what is bound to what.
    topology_changes: u64,
    /// What died in the turn at hand and was not published anew yet.
    letters: Vec<Letter>,
    /// Letters that were published together, so far.
    generation: u64,
    last_key: u64,
    exchanges: Exchanges,
    queues: BTreeMap<QueueKey, Queue>,
    queue_names: BTreeMap<String, QueueKey>,
    consumers: BTreeMap<ConsumerKey, Consumer>,
    channels: BTreeMap<ChannelKey, Channel>,
    connections: BTreeMap<ConnectionKey, Connection>,
    limits: BrokerLimits,
}

impl Model {
    /// A broker as it starts, with the limits that it was given.
    #[must_use]
    pub fn new(limits: BrokerLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// What happened so far.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Something else happened that belongs into the counts.
    pub const fn note(&mut self, event: Event) {
        self.counts.note(event);
    }

    const fn next_key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }

    /// The names of all queues that anybody may use.
    pub fn shared_queue_names(&self) -> impl Iterator<Item = &str> {
        let shared = |key: &QueueKey| self.queues.get(key).is_some_and(|queue| queue.owner.is_none());
        self.queue_names.iter().filter(move |(_, key)| shared(key)).map(|(name, _)| name.as_str())
    }

    /// The names of all exchanges that were declared.
    pub fn exchange_names(&self) -> impl Iterator<Item = &str> {
        self.exchanges.declared_names()
    }

    /// How many queues there are; some of those of a connection that is going may be gone.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.queue_names.len()
    }

    /// Connections that are told or known to be blocked.
    pub fn blocked_connections(&self) -> impl Iterator<Item = ConnectionKey> {
        self.connections.iter().filter(|(_, connection)| connection.blocked).map(|(key, _)| *key)
    }

    fn queue(&self, key: QueueKey) -> &Queue {
        self.queues.get(&key).expect("keys of live queues are in the map")
    }

    fn queue_mut(&mut self, key: QueueKey) -> &mut Queue {
        self.queues.get_mut(&key).expect("keys of live queues are in the map")
    }

    fn connection(&self, key: ConnectionKey) -> &Connection {
        self.connections.get(&key).expect("turns are those of connections")
    }

    fn connection_mut(&mut self, key: ConnectionKey) -> &mut Connection {
        self.connections.get_mut(&key).expect("turns are those of connections")
    }

    fn channel(&self, key: ChannelKey) -> &Channel {
        self.channels.get(&key).expect("commands come on channels that are open")
    }

    fn channel_mut(&mut self, key: ChannelKey) -> &mut Channel {
        self.channels.get_mut(&key).expect("commands come on channels that are open")
    }
}

/// A set of queues that a message goes to.
type Destinations = BTreeSet<QueueKey>;
/// A message that several queues and channels hold.
type Shared = Rc<Message>;
