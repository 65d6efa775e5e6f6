//! One connection to receive on: the exchange, a fresh queue bound to it, and its consumer.
//!
//! Invariant: the queue is this connection's alone, named by the broker, bounded, and gone with it; so
//! nothing is ever delivered twice from it.

use std::time::SystemTime;

use futures_lite::{StreamExt, future};
use lapin::{
    Channel, Consumer, Queue,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::cli::{
    connect::{Connector, Link, reason},
    exchange::{self, Ensured, ExchangeType},
    persist::OpenError,
    sizes::QueueBytes,
};

/// What a receiver wants from which exchange.
pub(crate) struct Subscription {
    pub(crate) exchange: ShortString,
    pub(crate) exchange_type: ExchangeType,
    pub(crate) routing_keys: Vec<ShortString>,
    /// With `x-match`; empty unless the exchange is to match headers.
    pub(crate) header_match: FieldTable,
    pub(crate) buffer: QueueBytes,
    pub(crate) prefetch: u16,
}

impl Subscription {
    pub(crate) fn is_selective(&self) -> bool {
        !self.routing_keys.is_empty() || !self.header_match.inner().is_empty()
    }

    fn queue_arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(self.buffer.get()));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
        arguments
    }

    /// The keys to bind with. Where none is asked for, the empty one is what the publish/subscribe
    /// tutorial binds with, and `#` has a topic exchange send everything too.
    fn binding_keys(&self) -> Vec<ShortString> {
        match self.routing_keys.is_empty() {
            false => self.routing_keys.clone(),
            true if self.is_selective() => vec!["".into()],
            true => vec!["".into(), "#".into()],
        }
    }
}

pub(crate) struct Session {
    pub(crate) link: Link,
    pub(crate) exchange: Ensured,
    /// From here on everything that is published reaches our queue.
    pub(crate) bound_at: SystemTime,
    channel: Channel,
    consumer: Consumer,
}

impl Session {
    pub(crate) async fn open(connector: &mut Connector, wanted: &Subscription) -> Result<Self, OpenError> {
        let link = connector.connect().await?;
        let exchange = exchange::ensure(&link.connection, &wanted.exchange, &wanted.exchange_type).await?;
        let channel = link.connection.create_channel().await?;
        channel.basic_qos(wanted.prefetch, BasicQosOptions::default()).await?;
        let queue = declare_and_bind(&channel, wanted).await?;
        let bound_at = SystemTime::now();
        let consumer = channel
            .basic_consume(
                queue.name().clone(),
                "".into(),
                BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() },
                FieldTable::default(),
            )
            .await?;
        Ok(Self { link, exchange, bound_at, channel, consumer })
    }

    /// The next message, or why there will be none.
    pub(crate) async fn next(&mut self) -> Result<Delivery, String> {
        match self.consumer.next().await {
            Some(Ok(delivery)) => Ok(delivery),
            Some(Err(error)) => Err(reason(&error)),
            None => Err("the broker cancelled the consumer".to_owned()),
        }
    }

    /// A message that has come already.
    pub(crate) async fn ready(&mut self) -> Option<Result<Delivery, String>> {
        future::poll_once(self.next()).await
    }

    /// Acknowledges everything up to this delivery. Only handed over: a broker that does not read must
    /// not stop us, and its queue does not outlive the connection.
    pub(crate) async fn ack_up_to(&self, delivery_tag: u64) {
        let ack = self.channel.basic_ack(delivery_tag, BasicAckOptions { multiple: true });
        let _ = future::poll_once(ack).await;
    }

    pub(crate) async fn close(self) {
        self.link.close().await;
    }
}

async fn declare_and_bind(channel: &Channel, wanted: &Subscription) -> Result<Queue, lapin::Error> {
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), options, wanted.queue_arguments()).await?;
    for key in wanted.binding_keys() {
        let (queue, exchange) = (queue.name().clone(), wanted.exchange.clone());
        let arguments = wanted.header_match.clone();
        channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), arguments).await?;
    }
    Ok(queue)
}
