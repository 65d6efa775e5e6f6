//! One connection to send on: a channel in confirm mode, and the exchange behind it.
//!
//! Knows how a line becomes a message and how the broker's answer becomes an outcome; which line is sent
//! when is the publisher's. Invariant: messages reach the broker in the order of `publish`.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_lite::{Stream, StreamExt};
use lapin::{
    BasicProperties, Channel, Confirmation, Event,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{account::Outcome, outbox::Entry};
use crate::cli::{
    connect::{Connector, Link, reply_code},
    exchange::{self, Ensured, ExchangeType},
    persist::OpenError,
    stamp::{NO_NEWLINE, Source, Stamp},
};

/// Where all lines of one run go.
pub(crate) struct Target {
    pub(crate) exchange: ShortString,
    pub(crate) exchange_type: ExchangeType,
    pub(crate) routing_key: ShortString,
    pub(crate) headers: FieldTable,
    pub(crate) persistent: bool,
    pub(crate) mandatory: bool,
    pub(crate) source: Source,
}

impl Target {
    fn properties(&self, entry: &Entry) -> BasicProperties {
        let stamp = Stamp { source: self.source, number: entry.number };
        let mut properties = BasicProperties::default().with_message_id(stamp.to_string().into());
        if self.persistent {
            properties = properties.with_delivery_mode(2);
        }
        let mut headers = self.headers.clone();
        if !entry.line.terminated {
            headers.insert(NO_NEWLINE.into(), AMQPValue::Boolean(true));
        }
        match headers.inner().is_empty() {
            true => properties,
            false => properties.with_headers(headers),
        }
    }
}

/// What a connection says of itself.
pub(crate) enum News {
    Blocked(String),
    Unblocked,
    Lost(lapin::Error),
}

pub(crate) struct Session {
    pub(crate) link: Link,
    pub(crate) exchange: Ensured,
    pub(crate) news: NewsStream,
    pub(crate) sender: Sender,
}

impl Session {
    pub(crate) async fn open(connector: &mut Connector, target: &Arc<Target>) -> Result<Self, OpenError> {
        let link = connector.connect().await?;
        let exchange = exchange::ensure(&link.connection, &target.exchange, &target.exchange_type).await?;
        // Not sooner: that an exchange was not found is an event of the connection too.
        let news = NewsStream(Box::pin(link.connection.events_listener()));
        let channel = link.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let sender = Sender { channel, target: Arc::clone(target) };
        Ok(Self { link, exchange, news, sender })
    }
}

/// The events of one connection.
pub(crate) struct NewsStream(Pin<Box<dyn Stream<Item = Event> + Send>>);

impl NewsStream {
    pub(crate) async fn next(&mut self) -> News {
        loop {
            match self.0.next().await {
                Some(Event::ConnectionBlocked(reason)) => return News::Blocked(reason),
                Some(Event::ConnectionUnblocked) => return News::Unblocked,
                Some(Event::Error(error)) => return News::Lost(error),
                Some(_) => {}
                // The stream ends with the connection, whose error the lines in flight carry.
                None => std::future::pending().await,
            }
        }
    }

    /// The broker's own reason for the end, where it has given one and `error` is only what followed.
    pub(crate) fn cause(&mut self, error: lapin::Error) -> lapin::Error {
        if reply_code(&error).is_some() {
            return error;
        }
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(event)) = self.0.as_mut().poll_next(&mut cx) {
            match event {
                Event::Error(cause) if reply_code(&cause).is_some() => return cause,
                _ => {}
            }
        }
        error
    }
}

/// Turns lines into messages on one channel.
pub(crate) struct Sender {
    channel: Channel,
    target: Arc<Target>,
}

impl Sender {
    /// The message is handed over when the flight is first polled.
    pub(crate) fn publish(&self, entry: &Entry, mandatory: bool) -> Flight {
        let (channel, target) = (self.channel.clone(), Arc::clone(&self.target));
        let (body, properties) = (Arc::clone(&entry.line.body), self.target.properties(entry));
        Flight::Flying(Box::pin(async move {
            let options = BasicPublishOptions {
                mandatory: mandatory || target.mandatory,
                ..BasicPublishOptions::default()
            };
            let (exchange, key) = (target.exchange.clone(), target.routing_key.clone());
            let confirm = channel.basic_publish(exchange, key, options, &body, properties).await?;
            Ok(match confirm.await? {
                Confirmation::Ack(None) => Outcome::Confirmed,
                Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Outcome::Returned,
                Confirmation::Nack(None) | Confirmation::NotRequested => Outcome::Refused,
            })
        }))
    }
}

type Landing = Result<Outcome, lapin::Error>;

/// A message on its way, and then what came of it.
pub(crate) enum Flight {
    Flying(Pin<Box<dyn Future<Output = Landing> + Send>>),
    Landed(Landing),
}

impl Flight {
    /// Like a future's poll, but may be called again after the end and gives the same answer.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Landing> {
        if let Self::Flying(future) = self {
            match future.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(landing) => *self = Self::Landed(landing),
            }
        }
        match self {
            Self::Landed(landing) => Poll::Ready(landing.clone()),
            Self::Flying(_) => Poll::Pending,
        }
    }
}
