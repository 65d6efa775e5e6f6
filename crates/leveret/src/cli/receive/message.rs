//! One received message, apart from the connection it came on.

use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, ShortString},
};

use crate::cli::stamp::{NO_NEWLINE, Stamp};

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) redelivered: bool,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        Stamp::parse(self.properties.message_id().as_ref()?.as_str())
    }

    /// Whether its line ended with the input and not with a line feed.
    pub(crate) fn lacks_newline(&self) -> bool {
        let headers = self.properties.headers().as_ref();
        headers.is_some_and(|headers| headers.inner().get(NO_NEWLINE) == Some(&AMQPValue::Boolean(true)))
    }
}

impl From<Delivery> for Message {
    fn from(delivery: Delivery) -> Self {
        Self {
            exchange: delivery.exchange,
            routing_key: delivery.routing_key,
            redelivered: delivery.redelivered,
            properties: delivery.properties,
            body: delivery.data,
        }
    }
}
