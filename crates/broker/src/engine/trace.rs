//! The firehose: while it is switched on in a virtual host, a copy of each message published and
//! of each delivered goes to the exchange `amq.rabbitmq.trace`, as on RabbitMQ's page on it.
//!
//! Invariant: messages of that exchange are not traced, or one would become many.

use std::sync::{Arc, atomic::Ordering};

use leveret_wire::{ArrayBuf, Properties, PublishRoute, ShortStr, Table, TableBuf, Value};

use super::{
    Engine, Peer,
    batch::{Batch, Message},
    connection::Connection,
    routes::{QueueRoute, route_trace},
    vhost::Vhost,
};
use crate::{
    Now,
    model::{death::copied_keys, topology::TRACE_EXCHANGE},
    session::Publish,
    store::Record,
};

/// What the header `node` says.
const NODE: &[u8] = b"leveret";

/// A message on its way to a consumer.
#[derive(Clone, Copy)]
pub(super) struct Tapped<'a> {
    pub(super) record: &'a Record<'a>,
    pub(super) queue: &'a str,
    pub(super) redelivered: bool,
    pub(super) channel: u16,
}

/// Where copies of a connection's deliveries come from, as long as they are wanted.
#[derive(Clone, Copy)]
pub(super) struct Tap<'a> {
    vhost: &'a Vhost,
    connection: &'a str,
    user: &'a str,
}

impl<'a> Tap<'a> {
    /// The tap of a connection to that virtual host, if the firehose is on there.
    pub(super) fn of(vhost: Option<&'a Arc<Vhost>>, peer: &'a Peer, user: Option<&'a str>) -> Option<Self> {
        let vhost = vhost.filter(|vhost| vhost.is_traced.load(Ordering::Relaxed))?;
        Some(Self { vhost, connection: &peer.name, user: user.unwrap_or_default() })
    }

    /// Copies a message that is delivered into the batch.
    #[cold]
    pub(super) fn copy(&self, batch: &mut Batch, engine: &Engine, now: Now, tapped: Tapped<'_>) {
        let route = PublishRoute::from_octets(tapped.record.route).expect("records hold routes");
        if route.exchange().as_bytes() == TRACE_EXCHANGE.as_bytes() {
            return;
        }
        let Ok(properties) = Properties::decode(tapped.record.property_octets()) else { return };
        let headers = begin(route, &properties)
            .with("node", Value::LongStr(NODE))
            .with("redelivered", Value::I32(tapped.redelivered.into()))
            .with("vhost", Value::LongStr(self.vhost.name.as_bytes()))
            .with("connection", Value::LongStr(self.connection.as_bytes()))
            .with("channel", Value::I32(tapped.channel.into()))
            .with("user", Value::LongStr(self.user.as_bytes()));
        let key = format!("deliver.{}", tapped.queue);
        append(batch, self.vhost, engine, now, &key, &headers, tapped.record.body());
    }
}

impl Connection {
    /// Copies a message that was published, and tells where it goes.
    #[cold]
    pub(super) fn trace_publish(
        &mut self,
        publish: &Publish<'_>,
        properties: Option<&Properties<'_>>,
        route: &QueueRoute,
    ) {
        let vhost = self.open_vhost_handle();
        let exchange = publish.route.exchange();
        if exchange.as_bytes() == TRACE_EXCHANGE.as_bytes() {
            return;
        }
        let mut queues = ArrayBuf::new();
        route.queues.iter().for_each(|queue| queues.push(Value::LongStr(queue.name.as_bytes())));
        let user = self.user.as_deref().unwrap_or_default();
        let properties = properties.copied().unwrap_or_default();
        let headers = begin(publish.route, &properties)
            .with("node", Value::LongStr(NODE))
            .with("vhost", Value::LongStr(vhost.name.as_bytes()))
            .with("connection", Value::LongStr(self.peer.name.as_bytes()))
            .with("channel", Value::I32(publish.channel.into()))
            .with("user", Value::LongStr(user.as_bytes()))
            .with("routed_queues", Value::Array(queues.as_array()));
        let key = format!("publish.{exchange}");
        append(&mut self.publishes.batch, &vhost, &self.engine, self.now, &key, &headers, publish.body);
    }
}

/// What both kinds of copies say first.
fn begin(route: PublishRoute<'_>, properties: &Properties<'_>) -> TableBuf {
    let headers = properties.headers.unwrap_or(Table::EMPTY);
    let mut keys = ArrayBuf::new().with(Value::LongStr(route.routing_key().as_bytes()));
    copied_keys(headers).for_each(|key| keys.push(Value::LongStr(key)));
    TableBuf::new()
        .with("exchange_name", Value::LongStr(route.exchange().as_bytes()))
        .with("routing_keys", Value::Array(keys.as_array()))
        .with("properties", Value::Table(described_within_depth(properties).as_table()))
}

/// The properties as a table, without headers that are nested too deep to be nested once more.
fn described_within_depth(properties: &Properties<'_>) -> TableBuf {
    let whole = described(properties);
    let copy = TableBuf::new().with("properties", Value::Table(whole.as_table()));
    let mut octets = Vec::new();
    Properties { headers: Some(copy.as_table()), ..Properties::default() }.encode(&mut octets);
    if Properties::decode(&octets).is_ok() {
        return whole;
    }
    described(&Properties { headers: None, ..*properties })
}

/// The properties as a table.
fn described(properties: &Properties<'_>) -> TableBuf {
    let mut table = TableBuf::new();
    let text = |table: &mut TableBuf, name, value: Option<ShortStr<'_>>| {
        if let Some(value) = value {
            table.push(name, Value::LongStr(value.as_bytes()));
        }
    };
    let number = |table: &mut TableBuf, name, value: Option<u8>| {
        if let Some(value) = value {
            table.push(name, Value::I32(value.into()));
        }
    };
    text(&mut table, "content_type", properties.content_type);
    text(&mut table, "content_encoding", properties.content_encoding);
    if let Some(headers) = properties.headers {
        table.push("headers", Value::Table(headers));
    }
    number(&mut table, "delivery_mode", properties.delivery_mode);
    number(&mut table, "priority", properties.priority);
    text(&mut table, "correlation_id", properties.correlation_id);
    text(&mut table, "reply_to", properties.reply_to);
    text(&mut table, "expiration", properties.expiration);
    text(&mut table, "message_id", properties.message_id);
    if let Some(seconds) = properties.timestamp {
        // Cut to 32 bits, as RabbitMQ cuts it.
        let [.., b0, b1, b2, b3] = seconds.to_be_bytes();
        table.push("timestamp", Value::I32(i32::from_be_bytes([b0, b1, b2, b3])));
    }
    text(&mut table, "type", properties.kind);
    text(&mut table, "user_id", properties.user_id);
    text(&mut table, "app_id", properties.app_id);
    text(&mut table, "cluster_id", properties.cluster_id);
    table
}

fn append(
    batch: &mut Batch,
    vhost: &Vhost,
    engine: &Engine,
    now: Now,
    key: &str,
    headers: &TableBuf,
    body: &[u8],
) {
    let key = ShortStr::truncated(key);
    let route = route_trace(vhost, key);
    let mut property_octets = Vec::new();
    Properties { headers: Some(headers.as_table()), ..Properties::default() }.encode(&mut property_octets);
    let mut octets = Vec::new();
    let message = Message {
        route: PublishRoute::write(TRACE_EXCHANGE.into(), key, &mut octets),
        property_octets: &property_octets,
        body,
        arrived_millis: now.monotonic_millis,
        expires: false,
        is_persistent: false,
    };
    let octets_left = 0;
    batch.append(engine, &message, &route, octets_left);
}
