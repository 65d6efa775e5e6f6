//! The calls of an AMQP client that load and checks make, with the options they always have.
//!
//! Knows no ledger. Invariant: all that is declared here is durable.

use anyhow::{Context, Result, bail};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, Error, ErrorKind,
    ExchangeKind, PublisherConfirm,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::sync::watch;

use super::definitions::{DIRECT, FANOUT, QUORUM, Thing};

const NOT_FOUND: u16 = 404;
const PERSISTENT: u8 = 2;

pub(super) async fn connect(url: &str) -> Result<Connection> {
    Connection::connect(url, ConnectionProperties::default()).await.context("the broker takes no connection")
}

/// Where a broker is that is going to be killed.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) url: String,
    pub(super) is_killed: watch::Receiver<bool>,
}

impl Address {
    /// Connects, if the broker lives until then: lapin 4.12.3 waits for ever when it dies between two methods of
    /// the handshake.
    pub(super) async fn connect(&self) -> Result<Connection> {
        let mut is_killed = self.is_killed.clone();
        tokio::select! {
            connection = connect(&self.url) => connection,
            _ = is_killed.wait_for(|is_killed| *is_killed) => bail!("the broker was killed before"),
        }
    }
}

/// A channel on which publishes are confirmed.
pub(super) async fn confirming(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Closes a channel in order. One that is dropped is closed some time later, which fails where its connection is
/// closed meanwhile.
pub(super) async fn close(channel: &Channel) -> Result<()> {
    channel.close(200, "done".into()).await.context("the broker does not close a channel")
}

/// Publishes a persistent message; mandatory, so that one without a queue comes back.
pub(super) async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
) -> lapin::Result<PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    channel.basic_publish(exchange.into(), key.into(), options, body, properties).await
}

/// Publishes a message that a restart may take.
pub(super) async fn publish_transient(
    channel: &Channel,
    key: &str,
    body: &[u8],
) -> lapin::Result<PublisherConfirm> {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish("".into(), key.into(), options, body, properties).await
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Confirmed,
    Returned,
    Refused,
}

pub(super) fn outcome_of(confirmation: &Confirmation) -> Outcome {
    match confirmation {
        Confirmation::Ack(None) => Outcome::Confirmed,
        Confirmation::Ack(Some(_)) => Outcome::Returned,
        Confirmation::Nack(_) | Confirmation::NotRequested => Outcome::Refused,
    }
}

pub(super) async fn consume(channel: &Channel, queue: &str) -> lapin::Result<Consumer> {
    channel
        .basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
}

pub(super) async fn declare(channel: &Channel, thing: &Thing) -> lapin::Result<()> {
    match thing {
        Thing::Queue(name) => declare_queue(channel, name, false).await,
        Thing::Exchange(name) => declare_exchange(channel, name, false).await,
        Thing::Binding(queue) => bind(channel, queue, DIRECT, queue).await,
    }
}

pub(super) async fn delete(channel: &Channel, thing: &Thing) -> lapin::Result<()> {
    match thing {
        Thing::Queue(name) => channel.queue_delete(name.as_str().into(), Default::default()).await.map(drop),
        Thing::Exchange(name) => channel.exchange_delete(name.as_str().into(), Default::default()).await,
        Thing::Binding(queue) => {
            let name = || queue.as_str().into();
            channel.queue_unbind(name(), DIRECT.into(), name(), FieldTable::default()).await
        }
    }
}

pub(super) async fn purge(channel: &Channel, queue: &str) -> lapin::Result<()> {
    channel.queue_purge(queue.into(), Default::default()).await.map(drop)
}

pub(super) async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let (options, arguments) = (Default::default(), FieldTable::default());
    channel.queue_bind(queue.into(), exchange.into(), key.into(), options, arguments).await
}

/// Whether the broker has a queue or an exchange of that name. The question costs its channel when not.
pub(super) async fn exists(connection: &Connection, thing: &Thing) -> Result<bool> {
    let channel = connection.create_channel().await?;
    let answer = match thing {
        Thing::Queue(name) => declare_queue(&channel, name, true).await,
        Thing::Exchange(name) => declare_exchange(&channel, name, true).await,
        Thing::Binding(_) => bail!("nobody can be asked for a binding"),
    };
    match answer {
        Ok(()) => close(&channel).await.map(|()| true),
        Err(error) if is_not_found(&error) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot ask for {thing:?}")),
    }
}

/// Whether the broker ended a channel or a connection by an error, rather than by going away.
pub(super) fn is_refusal(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<Error>();
    error.is_some_and(|error| matches!(error.kind(), ErrorKind::ProtocolError(_)))
}

fn is_not_found(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == NOT_FOUND)
}

async fn declare_queue(channel: &Channel, name: &str, passive: bool) -> lapin::Result<()> {
    let options = QueueDeclareOptions { durable: true, passive, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    if name == QUORUM {
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    }
    channel.queue_declare(name.into(), options, arguments).await.map(drop)
}

async fn declare_exchange(channel: &Channel, name: &str, passive: bool) -> lapin::Result<()> {
    let kind = if name == FANOUT { ExchangeKind::Fanout } else { ExchangeKind::Direct };
    let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await
}
