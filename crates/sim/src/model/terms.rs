//! What a queue's arguments ask of it, beside how much may be ready.

use leveret_wire::{Properties, Table, Value};

use super::{
    Message,
    queue::{Limits, Overflow},
};

/// How often a message of a quorum queue may come back unless the queue was told.
const RETURNS_MAX: i64 = 20;

/// Where dead letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grave {
    pub(super) exchange: String,
    /// None to keep the key that the message had.
    pub(super) routing_key: Option<Vec<u8>>,
}

/// How a queue treats messages and consumers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Terms {
    pub(super) message_ttl_millis: Option<u64>,
    pub(super) expires_millis: Option<u64>,
    pub(super) priority_max: u8,
    pub(super) single_active: bool,
    pub(super) is_quorum: bool,
    /// How often a message may come back.
    pub(super) returns_max: Option<u64>,
    pub(super) grave: Option<Grave>,
}

fn number(arguments: Table<'_>, name: &str) -> Option<u64> {
    arguments.find(name).and_then(Value::as_integer).and_then(|number| u64::try_from(number).ok())
}

impl Terms {
    pub(super) fn of(arguments: Table<'_>) -> Self {
        let is_quorum = arguments.find("x-queue-type") == Some(Value::LongStr(b"quorum"));
        let returns_max =
            arguments.find("x-delivery-limit").and_then(Value::as_integer).unwrap_or(RETURNS_MAX);
        let priority_max = number(arguments, "x-max-priority").unwrap_or(0);
        Self {
            message_ttl_millis: number(arguments, "x-message-ttl"),
            expires_millis: number(arguments, "x-expires"),
            priority_max: u8::try_from(priority_max).unwrap_or(u8::MAX),
            single_active: arguments.find("x-single-active-consumer") == Some(Value::Bool(true)),
            is_quorum,
            returns_max: if is_quorum { u64::try_from(returns_max).ok() } else { None },
            grave: grave(arguments),
        }
    }

    /// How long a message may be ready: as long as both it and the queue allow.
    pub(super) fn life_millis(&self, message: &Message) -> Option<u64> {
        let properties = Properties::decode(&message.property_octets).unwrap_or_default();
        let own = properties.expiration.and_then(|millis| millis.to_str()?.parse().ok());
        [own, self.message_ttl_millis].into_iter().flatten().min()
    }
}

fn grave(arguments: Table<'_>) -> Option<Grave> {
    let Some(Value::LongStr(exchange)) = arguments.find("x-dead-letter-exchange") else { return None };
    let routing_key = match arguments.find("x-dead-letter-routing-key") {
        Some(Value::LongStr(key)) => Some(key.to_vec()),
        _ => None,
    };
    Some(Grave { exchange: String::from_utf8_lossy(exchange).into_owned(), routing_key })
}

impl Limits {
    pub(super) fn of(arguments: Table<'_>) -> Self {
        let overflow = match arguments.find("x-overflow") {
            Some(Value::LongStr(b"reject-publish")) => Overflow::RejectPublish,
            Some(Value::LongStr(b"reject-publish-dlx")) => Overflow::RejectPublishDlx,
            _ => Overflow::DropHead,
        };
        Self {
            messages_max: number(arguments, "x-max-length"),
            octets_max: number(arguments, "x-max-length-bytes"),
            overflow,
        }
    }
}
