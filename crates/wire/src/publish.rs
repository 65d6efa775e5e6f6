//! `basic.publish` as a broker meets it millions of times: what it is routed by stays together, as
//! the octets that came, so that it is compared and copied at once.
//!
//! ```text
//!   0    2    4          6          7                              end
//!   +----+----+----------+----------+------- - -+----------+- - - -+------+
//!   | 60 | 40 | reserved | exchange, a short str | key, a short str | bits |
//!   +----+----+----------+----------+------- - -+----------+- - - -+------+
//!                        |<------------ the route ---------------->|
//! ```
//!
//! Invariant: it is decoded exactly where [`Method::decode`](crate::Method::decode) decodes a
//! publish, and says the same.

use crate::{ShortStr, method::basic};

/// Class and method id.
const IDS: [u8; 4] = {
    let ([c0, c1], [m0, m1]) = (basic::CLASS_ID.to_be_bytes(), basic::Publish::METHOD_ID.to_be_bytes());
    [c0, c1, m0, m1]
};
const RESERVED_OCTETS: usize = 2;
const MANDATORY: u8 = 1;
const IMMEDIATE: u8 = 2;

/// Exchange and routing key, as the two short strings that they are in the method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishRoute<'a>(&'a [u8]);

/// The fields of `basic.publish`, with its route in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishFields<'a> {
    /// Where it goes.
    pub route: PublishRoute<'a>,
    /// It comes back when no queue wants it.
    pub mandatory: bool,
    /// It comes back when no consumer takes it at once; RabbitMQ does not do this.
    pub immediate: bool,
}

impl<'a> PublishRoute<'a> {
    /// Wraps two short strings, or `None` when the octets are something else.
    #[must_use]
    #[inline]
    pub fn from_octets(octets: &'a [u8]) -> Option<Self> {
        let exchange_octets = usize::from(*octets.first()?);
        let key_octets = usize::from(*octets.get(1 + exchange_octets)?);
        (octets.len() == 2 + exchange_octets + key_octets).then_some(Self(octets))
    }

    /// Writes both into an empty buffer and wraps it.
    #[must_use]
    pub fn write(exchange: ShortStr<'_>, routing_key: ShortStr<'_>, out: &'a mut Vec<u8>) -> Self {
        out.clear();
        for name in [exchange, routing_key] {
            out.push(u8::try_from(name.len()).expect("a short string is at most 255 octets"));
            out.extend_from_slice(name.as_bytes());
        }
        Self(out)
    }

    /// The two short strings.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The exchange; empty for the default one.
    #[must_use]
    pub fn exchange(self) -> ShortStr<'a> {
        let octets = usize::from(self.0[0]);
        ShortStr::new(&self.0[1..1 + octets]).expect("its length is one octet")
    }

    /// The routing key.
    #[must_use]
    pub fn routing_key(self) -> ShortStr<'a> {
        let start = 2 + usize::from(self.0[0]);
        ShortStr::new(&self.0[start..]).expect("its length is one octet")
    }
}

impl<'a> PublishFields<'a> {
    /// Decodes the payload of a method frame, or `None` when that is not a whole publish.
    #[must_use]
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let (_, fields) = payload.strip_prefix(&IDS)?.split_at_checked(RESERVED_OCTETS)?;
        let (&bits, route) = fields.split_last()?;
        let route = PublishRoute::from_octets(route)?;
        Some(Self { route, mandatory: bits & MANDATORY != 0, immediate: bits & IMMEDIATE != 0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Method;

    fn check(payload: &[u8]) {
        let wanted = match Method::decode(payload) {
            Ok(Method::BasicPublish(publish)) => {
                Some((publish.exchange, publish.routing_key, publish.mandatory, publish.immediate))
            }
            _ => None,
        };
        let decoded = PublishFields::decode(payload).map(|fields| {
            (fields.route.exchange(), fields.route.routing_key(), fields.mandatory, fields.immediate)
        });
        assert_eq!(decoded, wanted, "{payload:?}");
    }

    proptest! {
        #[test]
        fn a_publish_is_decoded_as_every_method_is(
            exchange in prop::collection::vec(any::<u8>(), 0..=255),
            key in prop::collection::vec(any::<u8>(), 0..=255),
            mandatory: bool,
            immediate: bool,
            cut in any::<prop::sample::Index>(),
        ) {
            let (exchange, routing_key) =
                (ShortStr::new(&exchange).unwrap(), ShortStr::new(&key).unwrap());
            let publish =
                basic::Publish { exchange, routing_key, mandatory, immediate, ..Default::default() };
            let mut payload = Vec::new();
            Method::from(publish).encode(&mut payload);
            check(&payload);
            check(&payload[..cut.index(payload.len())]);
            payload.push(0);
            check(&payload);
        }

        #[test]
        fn other_octets_are_no_publish_to_either(tail in prop::collection::vec(0..4_u8, 0..12)) {
            check(&[&IDS[..], &tail].concat());
            check(&tail);
        }
    }
}
