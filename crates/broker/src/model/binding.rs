//! A binding: what ties a destination to a source exchange.

use leveret_wire::TableBuf;

use super::topology::{ExchangeId, QueueId};

/// Where a binding leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// Into a queue.
    Queue(QueueId),
    /// On to another exchange (RabbitMQ's exchange-to-exchange bindings).
    Exchange(ExchangeId),
}

/// A binding is its own identity: source, destination, key and arguments together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The exchange that messages come from.
    pub source: ExchangeId,
    /// Where they go.
    pub destination: Destination,
    /// The routing or binding key; any octets.
    pub routing_key: Box<[u8]>,
    /// The arguments, their fields in the order of their names.
    pub arguments: TableBuf,
}
