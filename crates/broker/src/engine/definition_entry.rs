//! Durable definitions as they stand in the journal and in snapshots: keys and values.
//!
//! ```text
//!   what      key                                                          value
//!   exchange  1, vhost, name                                               u64 number, u8 flags, kind, arguments
//!   queue     2, vhost, name                                               u64 number, u8 flags, arguments
//!   binding   3, vhost, u64 source, u8 1 | 2, u64 destination, key, arguments  nothing
//!   access    4                                                            text that the driver reads
//!   delays    5, vhost, exchange                                           u64 number
//! ```
//!
//! Texts have their length in front (u16 LE), arguments run to the end as a field table does on the
//! wire, integers are LE. Bindings name their ends by numbers that are never used twice, so that one
//! whose end is gone binds nothing, whatever is declared by that name later. Invariant: equal keys
//! define the same thing.

use leveret_wire::{Table, TableBuf};

/// A durable definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DefinitionEntry<'a> {
    Exchange(ExchangeEntry<'a>),
    Queue(QueueEntry<'a>),
    Binding(BindingEntry<'a>),
    /// Users, virtual hosts, permissions, policies: whatever the driver keeps together.
    Access(&'a [u8]),
    Delays(DelaysEntry<'a>),
}

/// The line of messages that wait at an exchange, which outlives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DelaysEntry<'a> {
    pub(super) vhost: &'a str,
    pub(super) exchange: &'a str,
    /// What the store calls the line, in the place of a queue's number.
    pub(super) number: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExchangeEntry<'a> {
    pub(super) vhost: &'a str,
    pub(super) name: &'a str,
    pub(super) number: u64,
    pub(super) kind: &'a str,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
    pub(super) arguments: TableBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueEntry<'a> {
    pub(super) vhost: &'a str,
    pub(super) name: &'a str,
    pub(super) number: u64,
    pub(super) auto_delete: bool,
    pub(super) arguments: TableBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BindingEntry<'a> {
    pub(super) vhost: &'a str,
    pub(super) source: u64,
    pub(super) destination: DestinationNumber,
    pub(super) routing_key: &'a [u8],
    pub(super) arguments: TableBuf,
}

/// What a binding leads to, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DestinationNumber {
    Queue(u64),
    Exchange(u64),
}

const EXCHANGE: u8 = 1;
const QUEUE: u8 = 2;
const BINDING: u8 = 3;
const ACCESS: u8 = 4;
const DELAYS: u8 = 5;

const TO_QUEUE: u8 = 1;
const TO_EXCHANGE: u8 = 2;

const AUTO_DELETE: u8 = 1;
const INTERNAL: u8 = 2;

impl<'a> DefinitionEntry<'a> {
    pub(super) fn key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        match self {
            Self::Exchange(exchange) => put_name(&mut key, EXCHANGE, exchange.vhost, exchange.name),
            Self::Queue(queue) => put_name(&mut key, QUEUE, queue.vhost, queue.name),
            Self::Binding(binding) => binding.write(&mut key),
            Self::Access(_) => key.push(ACCESS),
            Self::Delays(delays) => put_name(&mut key, DELAYS, delays.vhost, delays.exchange),
        }
        key
    }

    pub(super) fn value(&self) -> Vec<u8> {
        let mut value = Vec::new();
        match self {
            Self::Exchange(exchange) => {
                let internal = if exchange.internal { INTERNAL } else { 0 };
                value.extend_from_slice(&exchange.number.to_le_bytes());
                value.push(auto_delete_flag(exchange.auto_delete) | internal);
                put_text(&mut value, exchange.kind.as_bytes());
                value.extend_from_slice(exchange.arguments.as_table().as_bytes());
            }
            Self::Queue(queue) => {
                value.extend_from_slice(&queue.number.to_le_bytes());
                value.push(auto_delete_flag(queue.auto_delete));
                value.extend_from_slice(queue.arguments.as_table().as_bytes());
            }
            Self::Binding(_) => {}
            Self::Access(text) => value.extend_from_slice(text),
            Self::Delays(delays) => value.extend_from_slice(&delays.number.to_le_bytes()),
        }
        value
    }

    /// `None` when it makes no sense.
    pub(super) fn read(mut key: &'a [u8], mut value: &'a [u8]) -> Option<Self> {
        let (key, value) = (&mut key, &mut value);
        match take_u8(key)? {
            EXCHANGE => {
                let (vhost, name) = (take_name(key)?, take_name(key)?);
                let (number, flags) = (take_u64(value)?, take_u8(value)?);
                let kind = take_name(value)?;
                let (auto_delete, internal) = (flags & AUTO_DELETE != 0, flags & INTERNAL != 0);
                let arguments = take_table(value)?;
                let exchange = ExchangeEntry { vhost, name, number, kind, auto_delete, internal, arguments };
                Some(Self::Exchange(exchange))
            }
            QUEUE => {
                let (vhost, name) = (take_name(key)?, take_name(key)?);
                let (number, flags) = (take_u64(value)?, take_u8(value)?);
                let (auto_delete, arguments) = (flags & AUTO_DELETE != 0, take_table(value)?);
                Some(Self::Queue(QueueEntry { vhost, name, number, auto_delete, arguments }))
            }
            BINDING => BindingEntry::read(key).map(Self::Binding),
            ACCESS => Some(Self::Access(value)),
            DELAYS => {
                let (vhost, exchange) = (take_name(key)?, take_name(key)?);
                Some(Self::Delays(DelaysEntry { vhost, exchange, number: take_u64(value)? }))
            }
            _ => None,
        }
    }
}

impl<'a> BindingEntry<'a> {
    fn write(&self, key: &mut Vec<u8>) {
        let (kind, number) = match self.destination {
            DestinationNumber::Queue(number) => (TO_QUEUE, number),
            DestinationNumber::Exchange(number) => (TO_EXCHANGE, number),
        };
        key.push(BINDING);
        put_text(key, self.vhost.as_bytes());
        key.extend_from_slice(&self.source.to_le_bytes());
        key.push(kind);
        key.extend_from_slice(&number.to_le_bytes());
        put_text(key, self.routing_key);
        key.extend_from_slice(self.arguments.as_table().as_bytes());
    }

    fn read(key: &mut &'a [u8]) -> Option<Self> {
        let (vhost, source) = (take_name(key)?, take_u64(key)?);
        let destination = match (take_u8(key)?, take_u64(key)?) {
            (TO_QUEUE, number) => DestinationNumber::Queue(number),
            (TO_EXCHANGE, number) => DestinationNumber::Exchange(number),
            _ => return None,
        };
        Some(Self { vhost, source, destination, routing_key: take_text(key)?, arguments: take_table(key)? })
    }
}

const fn auto_delete_flag(auto_delete: bool) -> u8 {
    if auto_delete { AUTO_DELETE } else { 0 }
}

fn put_name(out: &mut Vec<u8>, kind: u8, vhost: &str, name: &str) {
    out.push(kind);
    put_text(out, vhost.as_bytes());
    put_text(out, name.as_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    let octets = u16::try_from(text.len()).expect("names and keys are short");
    out.extend_from_slice(&octets.to_le_bytes());
    out.extend_from_slice(text);
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn take_u8(rest: &mut &[u8]) -> Option<u8> {
    take::<1>(rest).map(|[octet]| octet)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let octets = u16::from_le_bytes(take(rest)?).into();
    let (text, left) = rest.split_at_checked(octets)?;
    *rest = left;
    Some(text)
}

fn take_name<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    str::from_utf8(take_text(rest)?).ok()
}

fn take_table(rest: &mut &[u8]) -> Option<TableBuf> {
    Table::new(std::mem::take(rest)).ok().map(TableBuf::from)
}

#[cfg(test)]
mod tests {
    use leveret_wire::Value;

    use super::*;

    fn check(entry: &DefinitionEntry<'_>) {
        let (key, value) = (entry.key(), entry.value());
        assert_eq!(DefinitionEntry::read(&key, &value).as_ref(), Some(entry));
        for length in 0..key.len().min(20) {
            let _no_panic = DefinitionEntry::read(&key[..length], &value);
        }
        for length in 0..value.len().min(20) {
            let _no_panic = DefinitionEntry::read(&key, &value[..length]);
        }
    }

    #[test]
    fn definitions_come_back_as_they_were() {
        let arguments = TableBuf::new().with("x-max-length", Value::I32(7));
        let (vhost, name, number) = ("/", "orders", u64::MAX);
        let exchange = ExchangeEntry {
            vhost,
            name,
            number,
            kind: "topic",
            auto_delete: true,
            internal: true,
            arguments: arguments.clone(),
        };
        check(&DefinitionEntry::Exchange(exchange));
        let queue = QueueEntry { vhost, name, number, auto_delete: false, arguments: arguments.clone() };
        check(&DefinitionEntry::Queue(queue));
        for destination in [DestinationNumber::Queue(3), DestinationNumber::Exchange(3)] {
            let routing_key = &[0xff; 255][..];
            let arguments = arguments.clone();
            check(&DefinitionEntry::Binding(BindingEntry {
                vhost,
                source: 2,
                destination,
                routing_key,
                arguments,
            }));
        }
        check(&DefinitionEntry::Access(b"{}"));
        check(&DefinitionEntry::Delays(DelaysEntry { vhost, exchange: name, number }));
    }

    #[test]
    fn what_makes_no_sense_is_no_definition() {
        assert_eq!(DefinitionEntry::read(&[9], &[]), None);
        assert_eq!(DefinitionEntry::read(&[], &[]), None);
        assert_eq!(DefinitionEntry::read(&[QUEUE, 255, 255, 1], &[]), None);
    }
}
