//! Consistent hash routing: messages are shared out by a hash, by the weights of the bindings, and
//! few of them change their queue when a binding is made or removed.
//!
//! A binding's key is its weight: so many buckets on the ring. What is hashed is the routing key, or
//! a header or a property that the exchange's arguments name; messages without it go to one queue
//! together. As in RabbitMQ's plugin, a destination is on the ring by its first binding alone, and
//! leaves it with any of its bindings. Invariant: the parts' ends rise by the parts' weights.

use leveret_wire::{Properties, Table, TableBuf, Value};

use super::{RoutingInput, hash};
use crate::{
    model::{
        arguments::{Owner, erlang_text},
        binding::{Binding, Destination},
        found::Found,
    },
    planted::{self, Bug},
    refusal::Refusal,
};

/// A weight above this one counts as this one, which is more than any ring needs.
const WEIGHT_MAX: u64 = u32::MAX as u64;

/// What of a message is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HashOn {
    /// The routing key of the publish.
    #[default]
    RoutingKey,
    /// The header of that name.
    Header(Box<[u8]>),
    /// A property.
    Property(Property),
}

/// Properties that can be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property {
    /// `correlation_id`.
    CorrelationId,
    /// `message_id`.
    MessageId,
    /// `timestamp`.
    Timestamp,
}

impl HashOn {
    /// Reads the arguments `hash-header` and `hash-property`.
    ///
    /// # Errors
    /// When both are there, or the property is not one that can be hashed, in RabbitMQ's words.
    pub fn parse(arguments: Table<'_>, owner: Owner<'_>) -> Result<Self, Refusal> {
        let header = text(arguments, "hash-header", owner)?;
        let property = text(arguments, "hash-property", owner)?;
        match (header, property) {
            (None, None) => Ok(Self::RoutingKey),
            (Some(header), None) => Ok(Self::Header(header.into())),
            (None, Some(property)) => Property::from_name(property).map(Self::Property),
            (Some(_), Some(_)) => {
                let text = "hash-header and hash-property are mutually exclusive";
                Err(Refusal::InvalidExchangeArgument(text.to_owned()))
            }
        }
    }

    fn hash(&self, input: RoutingInput<'_>) -> u64 {
        match self {
            Self::RoutingKey => hash::hash([input.routing_key]),
            Self::Header(name) => {
                let found = input.headers().iter().find(|(found, _)| found.as_bytes() == &**name);
                // With its type: the same number of another width is another value there.
                let typed = found.map(|(_, value)| TableBuf::new().with("", value));
                hash::hash(typed.iter().map(|typed| typed.as_table().as_bytes()))
            }
            Self::Property(property) => property.hash(input.properties),
        }
    }
}

/// Another type crashes RabbitMQ's plugin; here the argument is named.
fn text<'a>(arguments: Table<'a>, name: &'static str, owner: Owner<'_>) -> Result<Option<&'a [u8]>, Refusal> {
    match arguments.find(name) {
        None => Ok(None),
        Some(Value::LongStr(text)) => Ok(Some(text)),
        Some(other) => Err(owner.wrong_type(name, other)),
    }
}

impl Property {
    fn from_name(name: &[u8]) -> Result<Self, Refusal> {
        match name {
            b"correlation_id" => Ok(Self::CorrelationId),
            b"message_id" => Ok(Self::MessageId),
            b"timestamp" => Ok(Self::Timestamp),
            other => {
                let text = format!("Unsupported property: {}", String::from_utf8_lossy(other));
                Err(Refusal::InvalidExchangeArgument(text))
            }
        }
    }

    fn hash(self, properties: Option<&Properties<'_>>) -> u64 {
        let text = match self {
            Self::CorrelationId => properties.and_then(|properties| properties.correlation_id),
            Self::MessageId => properties.and_then(|properties| properties.message_id),
            Self::Timestamp => {
                let seconds = properties.and_then(|properties| properties.timestamp).map(u64::to_le_bytes);
                return hash::hash(seconds.iter().map(|octets| &octets[..]));
            }
        };
        hash::hash(text.iter().map(|text| text.as_bytes()))
    }
}

/// The weight that a binding key stands for.
///
/// # Errors
/// When it is no whole number, or none above zero, in RabbitMQ's words.
pub fn weight(key: &[u8]) -> Result<u64, Refusal> {
    let refused = |text: String| Err(Refusal::InvalidBinding(text));
    let (is_negative, digits) = match key {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return refused(format!("The binding key must be an integer: {}", erlang_text(key)));
    }
    let more = |weight: u64, digit: &u8| (weight * 10 + u64::from(digit - b'0')).min(WEIGHT_MAX);
    match digits.iter().fold(0, more) {
        weight if weight > 0 && !is_negative => Ok(weight),
        _ => refused("The binding key must be greater than 0".to_owned()),
    }
}

#[derive(Debug)]
struct Part {
    destination: Destination,
    weight: u64,
    /// The buckets of this part and of those before it.
    end: u64,
}

/// The buckets, shared out among the destinations.
#[derive(Debug, Default)]
pub struct Ring {
    parts: Vec<Part>,
}

impl Ring {
    /// Adds a binding.
    pub fn insert(&mut self, binding: &Binding) {
        let destination = binding.destination;
        if self.parts.iter().any(|part| part.destination == destination) {
            return;
        }
        let weight = weight(&binding.routing_key).expect("bindings are checked before they are made");
        let weight = if planted::is(Bug::WeightIgnored) { 1 } else { weight };
        self.parts.push(Part { destination, weight, end: self.buckets() + weight });
    }

    /// Removes a binding that was added, and its destination.
    pub fn remove(&mut self, binding: &Binding) {
        self.parts.retain(|part| part.destination != binding.destination);
        let mut end = 0;
        for part in &mut self.parts {
            end += part.weight;
            part.end = end;
        }
    }

    /// Adds the destination of a message to `found`, if there is any.
    pub fn route(&self, hash_on: &HashOn, input: RoutingInput<'_>, found: &mut Found) {
        if !self.parts.is_empty() {
            let bucket = jump(hash_on.hash(input), self.buckets());
            let part = self.parts.partition_point(|part| part.end <= bucket);
            found.insert(self.parts[part].destination);
            if planted::is(Bug::HashToTwo) {
                found.insert(self.parts[0].destination);
            }
        }
    }

    fn buckets(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.end)
    }
}

/// The jump consistent hash of Lamping and Veach: one more bucket takes over its share of the keys,
/// and leaves all others where they are.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn jump(mut hash: u64, buckets: u64) -> u64 {
    if planted::is(Bug::HashMovesAll) {
        return hash % buckets;
    }
    let (mut bucket, mut next) = (0, 0);
    while next < buckets {
        bucket = next;
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let draw = ((hash >> 33) + 1) as f64 / (1_u64 << 31) as f64;
        next = ((bucket + 1) as f64 / draw) as u64;
    }
    bucket
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::topology::{ExchangeId, QueueId};

    fn binding(queue: usize, weight: &str) -> Binding {
        Binding {
            source: ExchangeId(0),
            destination: Destination::Queue(QueueId(queue)),
            routing_key: weight.as_bytes().into(),
            arguments: TableBuf::new(),
        }
    }

    fn ring(weights: &[&str]) -> Ring {
        let mut ring = Ring::default();
        for (queue, weight) in weights.iter().enumerate() {
            ring.insert(&binding(queue, weight));
        }
        ring
    }

    fn route(ring: &Ring, hash_on: &HashOn, key: &str, properties: &Properties<'_>) -> Option<usize> {
        let input = RoutingInput {
            routing_key: key.as_bytes(),
            copies: None,
            properties: Some(properties),
            random: &|| 0,
        };
        let mut found = Found::default();
        ring.route(hash_on, input, &mut found);
        assert!(found.len() <= 1);
        match found.get(0) {
            Some(Destination::Queue(QueueId(queue))) => Some(queue),
            _ => None,
        }
    }

    const KEYS: usize = 10_000;

    fn routes(ring: &Ring) -> Vec<usize> {
        let none = Properties::default();
        let by_key = |n: usize| route(ring, &HashOn::RoutingKey, &n.to_string(), &none);
        (0..KEYS).map(|n| by_key(n).expect("there are destinations")).collect()
    }

    #[test]
    fn keys_are_shared_out_by_weight() {
        let routes = routes(&ring(&["1", "3", "6"]));
        for (queue, share) in [(0, 10), (1, 30), (2, 60)] {
            let count = routes.iter().filter(|found| **found == queue).count();
            let wanted = KEYS * share / 100;
            assert!(count.abs_diff(wanted) < KEYS / 40, "{count} of {KEYS} for a share of {share} in 100");
        }
    }

    #[test]
    fn a_new_destination_takes_its_share_and_moves_nothing_else() {
        let before = routes(&ring(&["1", "1", "1"]));
        let after = routes(&ring(&["1", "1", "1", "1"]));
        let moved: Vec<_> = before.iter().zip(&after).filter(|(one, other)| one != other).collect();
        assert!(moved.iter().all(|(_, queue)| **queue == 3));
        assert!(moved.len().abs_diff(KEYS / 4) < KEYS / 40, "{} moved", moved.len());
    }

    #[test]
    fn a_destination_is_there_once_and_goes_with_any_of_its_bindings() {
        let none = Properties::default();
        let mut ring = ring(&["1"]);
        ring.insert(&binding(0, "5"));
        ring.insert(&binding(1, "2"));
        assert_eq!(ring.buckets(), 3);
        ring.remove(&binding(0, "5"));
        assert_eq!(ring.buckets(), 2);
        assert_eq!(route(&ring, &HashOn::RoutingKey, "any", &none), Some(1));
        ring.remove(&binding(1, "2"));
        assert_eq!(route(&ring, &HashOn::RoutingKey, "any", &none), None);
    }

    #[test]
    fn what_is_named_is_hashed_and_nothing_else() {
        let ring = ring(&["1"; 64]);
        let by = |hash_on: HashOn, key: &str, properties: &Properties<'_>| {
            route(&ring, &hash_on, key, properties).expect("there are destinations")
        };
        let header = |value| TableBuf::new().with("h", value);
        let (one, other) = (header(Value::I32(1)), header(Value::LongStr(b"x")));
        let with = |headers| Properties { headers: Some(headers), ..Properties::default() };
        let on_header = || HashOn::Header((*b"h").into());
        let (one, other) = (with(one.as_table()), with(other.as_table()));
        assert_eq!(by(on_header(), "a", &one), by(on_header(), "b", &one));
        assert_ne!(by(on_header(), "a", &one), by(on_header(), "a", &other));
        let (one, other) = (Some("one".into()), Some("other".into()));
        let check = |property, one: Properties<'_>, other: Properties<'_>| {
            let hash_on = || HashOn::Property(property);
            assert_eq!(by(hash_on(), "a", &one), by(hash_on(), "b", &one));
            assert_ne!(by(hash_on(), "a", &one), by(hash_on(), "a", &other));
            let none = Properties::default();
            assert_eq!(by(hash_on(), "a", &none), by(hash_on(), "b", &none));
        };
        let message = |message_id| Properties { message_id, ..Properties::default() };
        check(Property::MessageId, message(one), message(other));
        let correlation = |correlation_id| Properties { correlation_id, ..Properties::default() };
        check(Property::CorrelationId, correlation(one), correlation(other));
        let time = |seconds| Properties { timestamp: Some(seconds), ..Properties::default() };
        check(Property::Timestamp, time(1), time(2));
    }

    #[test]
    fn a_weight_is_a_whole_number_above_zero() {
        let check = |key: &str, wanted: Result<u64, &str>| {
            let found = weight(key.as_bytes()).map_err(|refusal| refusal.to_string());
            assert_eq!(found, wanted.map_err(str::to_owned), "{key}");
        };
        check("1", Ok(1));
        check("+07", Ok(7));
        check("99999999999999999999999999", Ok(WEIGHT_MAX));
        let small = Err("The binding key must be greater than 0");
        check("0", small);
        check("-5", small);
        check("", Err("The binding key must be an integer: <<>>"));
        check("a\"b", Err("The binding key must be an integer: <<\"a\\\"b\">>"));
        check("1.5", Err("The binding key must be an integer: <<\"1.5\">>"));
        check("-", Err("The binding key must be an integer: <<\"-\">>"));
        check("\u{1}", Err("The binding key must be an integer: <<1>>"));
    }
}
