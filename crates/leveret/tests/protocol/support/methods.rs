//! Methods with their usual fields, to be changed by struct update where a test wants others.

use leveret_wire::{
    Properties, ShortStr, TableBuf, Value,
    method::{basic, exchange, queue},
};

/// A transient queue for everybody.
pub(crate) fn declare(queue: &str) -> queue::Declare<'_> {
    queue::Declare { queue: queue.into(), ..queue::Declare::default() }
}

pub(crate) fn passive(queue: &str) -> queue::Declare<'_> {
    queue::Declare { passive: true, ..declare(queue) }
}

pub(crate) fn exclusive(queue: &str) -> queue::Declare<'_> {
    queue::Declare { exclusive: true, ..declare(queue) }
}

pub(crate) fn declare_with<'a>(queue: &'a str, arguments: &'a TableBuf) -> queue::Declare<'a> {
    queue::Declare { arguments: arguments.as_table(), ..declare(queue) }
}

pub(crate) fn delete(queue: &str) -> queue::Delete<'_> {
    queue::Delete { queue: queue.into(), ..queue::Delete::default() }
}

pub(crate) fn purge(queue: &str) -> queue::Purge<'_> {
    queue::Purge { queue: queue.into(), ..queue::Purge::default() }
}

pub(crate) fn bind<'a>(queue: &'a str, exchange: &'a str, routing_key: &'a str) -> queue::Bind<'a> {
    queue::Bind {
        queue: queue.into(),
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        ..queue::Bind::default()
    }
}

pub(crate) fn unbind<'a>(queue: &'a str, exchange: &'a str, routing_key: &'a str) -> queue::Unbind<'a> {
    queue::Unbind {
        queue: queue.into(),
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        ..queue::Unbind::default()
    }
}

pub(crate) fn declare_exchange<'a>(exchange: &'a str, kind: &'a str) -> exchange::Declare<'a> {
    exchange::Declare { exchange: exchange.into(), kind: kind.into(), ..exchange::Declare::default() }
}

pub(crate) fn passive_exchange(exchange: &str) -> exchange::Declare<'_> {
    exchange::Declare { passive: true, ..declare_exchange(exchange, "") }
}

pub(crate) fn delete_exchange(exchange: &str) -> exchange::Delete<'_> {
    exchange::Delete { exchange: exchange.into(), ..exchange::Delete::default() }
}

pub(crate) fn bind_exchange<'a>(
    destination: &'a str,
    source: &'a str,
    routing_key: &'a str,
) -> exchange::Bind<'a> {
    exchange::Bind {
        destination: destination.into(),
        source: source.into(),
        routing_key: routing_key.into(),
        ..exchange::Bind::default()
    }
}

pub(crate) fn unbind_exchange<'a>(
    destination: &'a str,
    source: &'a str,
    routing_key: &'a str,
) -> exchange::Unbind<'a> {
    exchange::Unbind {
        destination: destination.into(),
        source: source.into(),
        routing_key: routing_key.into(),
        ..exchange::Unbind::default()
    }
}

/// A consumer that acknowledges.
pub(crate) fn consume<'a>(queue: &'a str, consumer_tag: &'a str) -> basic::Consume<'a> {
    basic::Consume { queue: queue.into(), consumer_tag: consumer_tag.into(), ..basic::Consume::default() }
}

pub(crate) fn consume_no_ack<'a>(queue: &'a str, consumer_tag: &'a str) -> basic::Consume<'a> {
    basic::Consume { no_ack: true, ..consume(queue, consumer_tag) }
}

pub(crate) fn cancel(consumer_tag: &str) -> basic::Cancel<'_> {
    basic::Cancel { consumer_tag: consumer_tag.into(), nowait: false }
}

/// A get whose message is to be acknowledged.
pub(crate) fn get(queue: &str) -> basic::Get<'_> {
    basic::Get { queue: queue.into(), ..basic::Get::default() }
}

pub(crate) fn get_no_ack(queue: &str) -> basic::Get<'_> {
    basic::Get { no_ack: true, ..get(queue) }
}

pub(crate) fn qos(prefetch_count: u16) -> basic::Qos {
    basic::Qos { prefetch_octets: 0, prefetch_count, global: false }
}

pub(crate) fn qos_global(prefetch_count: u16) -> basic::Qos {
    basic::Qos { global: true, ..qos(prefetch_count) }
}

pub(crate) fn ack(delivery_tag: u64) -> basic::Ack {
    basic::Ack { delivery_tag, multiple: false }
}

pub(crate) fn ack_through(delivery_tag: u64) -> basic::Ack {
    basic::Ack { delivery_tag, multiple: true }
}

pub(crate) fn nack(delivery_tag: u64, multiple: bool, requeue: bool) -> basic::Nack {
    basic::Nack { delivery_tag, multiple, requeue }
}

pub(crate) fn reject(delivery_tag: u64, requeue: bool) -> basic::Reject {
    basic::Reject { delivery_tag, requeue }
}

/// A message to publish.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) channel: u16,
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: &'a str,
    pub(crate) mandatory: bool,
    pub(crate) immediate: bool,
    pub(crate) properties: Properties<'a>,
    pub(crate) body: &'a [u8],
}

/// A message on channel 1.
pub(crate) fn message<'a>(exchange: &'a str, routing_key: &'a str, body: &'a str) -> Message<'a> {
    Message {
        channel: 1,
        exchange,
        routing_key,
        mandatory: false,
        immediate: false,
        properties: Properties::default(),
        body: body.as_bytes(),
    }
}

pub(crate) fn mandatory<'a>(exchange: &'a str, routing_key: &'a str, body: &'a str) -> Message<'a> {
    Message { mandatory: true, ..message(exchange, routing_key, body) }
}

impl Message<'_> {
    pub(crate) fn publish(&self) -> basic::Publish<'_> {
        basic::Publish {
            exchange: ShortStr::truncated(self.exchange),
            routing_key: ShortStr::truncated(self.routing_key),
            mandatory: self.mandatory,
            immediate: self.immediate,
            ..basic::Publish::default()
        }
    }
}

/// A table of a few fields.
pub(crate) fn table(fields: &[(&str, Value<'_>)]) -> TableBuf {
    let mut table = TableBuf::new();
    for (name, value) in fields {
        table.push(name, *value);
    }
    table
}
