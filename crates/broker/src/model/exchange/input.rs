//! What the destinations of a message depend on: its keys, its properties, and chance.
//!
//! Knows the headers `CC` and `BCC`, which carry further routing keys. Invariant: chance is asked
//! only by an exchange that goes by it, so that a route without one is the same each time.

use leveret_wire::{Properties, ShortStr, Table, TableBuf, Value};

use crate::refusal::Refusal;

/// A message as an exchange sees it.
#[derive(Clone, Copy)]
pub struct RoutingInput<'a> {
    /// The routing key.
    pub routing_key: &'a [u8],
    /// Further routing keys, if it has any.
    pub copies: Option<CarbonCopies<'a>>,
    /// The properties, the headers among them, if it has any.
    pub properties: Option<&'a Properties<'a>>,
    /// Draws a number at random.
    pub random: &'a dyn Fn() -> u64,
}

impl<'a> RoutingInput<'a> {
    /// All routing keys, that of the publish first.
    pub fn keys(&self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::once(self.routing_key).chain(self.copies.into_iter().flat_map(CarbonCopies::keys))
    }

    /// Calls `each` with all routing keys. Mostly there is one, which costs no iterator.
    #[inline]
    pub fn for_each_key(&self, mut each: impl FnMut(&'a [u8])) {
        each(self.routing_key);
        if let Some(copies) = self.copies {
            copies.keys().for_each(each);
        }
    }

    /// The headers, empty if there are none.
    #[must_use]
    pub fn headers(&self) -> Table<'a> {
        self.properties.and_then(|properties| properties.headers).unwrap_or(Table::EMPTY)
    }
}

/// The headers `CC` and `BCC` of a message that has one of them.
#[derive(Debug, Clone, Copy)]
pub struct CarbonCopies<'a> {
    open: Option<Value<'a>>,
    blind: Option<Value<'a>>,
}

impl<'a> CarbonCopies<'a> {
    /// Those of a message with these properties.
    #[must_use]
    pub fn of(properties: &Properties<'a>) -> Option<Self> {
        let mut copies = Self { open: None, blind: None };
        for (name, value) in properties.headers?.iter() {
            match name.as_bytes() {
                b"CC" => copies.open = copies.open.or(Some(value)),
                b"BCC" => copies.blind = copies.blind.or(Some(value)),
                _ => {}
            }
        }
        (copies.open.is_some() || copies.blind.is_some()).then_some(copies)
    }

    /// Whether both are arrays. What is in them beside texts means nothing, as in RabbitMQ.
    ///
    /// # Errors
    /// [`Refusal::InvalidMessage`] in RabbitMQ's words.
    pub fn check(self) -> Result<(), Refusal> {
        for (name, value) in [("CC", self.open), ("BCC", self.blind)] {
            if let Some(value) = value.filter(|value| !matches!(value, Value::Array(_))) {
                let kind = value.type_name();
                return Err(Refusal::InvalidMessage(format!(
                    "{{unacceptable_type_in_header,\"{name}\",{kind}}}"
                )));
            }
        }
        Ok(())
    }

    fn keys(self) -> impl Iterator<Item = &'a [u8]> {
        let texts = |value| match value {
            Value::Array(array) => Some(array.iter().filter_map(|value| match value {
                Value::LongStr(text) => Some(text),
                _ => None,
            })),
            _ => None,
        };
        self.open.into_iter().chain(self.blind).filter_map(texts).flatten()
    }

    /// The properties as receivers may see them, without `BCC`, when they have it. Headers that
    /// had nothing else stay, empty.
    #[must_use]
    pub fn without_blind(self, properties: &Properties<'_>) -> Option<Vec<u8>> {
        self.blind?;
        let mut headers = TableBuf::new();
        let seen = |(name, _): &(ShortStr<'_>, _)| name.as_bytes() != b"BCC";
        for (name, value) in properties.headers?.iter().filter(seen) {
            headers.push_field(name, value);
        }
        let mut octets = Vec::new();
        Properties { headers: Some(headers.as_table()), ..*properties }.encode(&mut octets);
        Some(octets)
    }
}

#[cfg(test)]
mod tests {
    use leveret_wire::ArrayBuf;

    use super::*;

    fn array(values: &[Value<'_>]) -> ArrayBuf {
        let mut array = ArrayBuf::new();
        for value in values {
            array.push(*value);
        }
        array
    }

    #[track_caller]
    fn check(headers: &TableBuf, keys: &[&str], shown: Option<&TableBuf>) {
        let properties = Properties { headers: Some(headers.as_table()), ..Properties::default() };
        let copies = CarbonCopies::of(&properties);
        let input =
            RoutingInput { routing_key: b"key", copies, properties: Some(&properties), random: &|| 0 };
        assert!(input.keys().eq(std::iter::once("key").chain(keys.iter().copied()).map(str::as_bytes)));
        let without = copies.and_then(|copies| copies.without_blind(&properties));
        let wanted = shown.map(|headers| {
            let mut octets = Vec::new();
            Properties { headers: Some(headers.as_table()), ..Properties::default() }.encode(&mut octets);
            octets
        });
        assert_eq!(without, wanted);
    }

    #[test]
    fn copies_add_keys_and_blind_ones_do_not_show() {
        let one = array(&[Value::LongStr(b"a"), Value::I32(1), Value::LongStr(b"b")]);
        let other = array(&[Value::LongStr(b"c")]);
        let (one, other) = (Value::Array(one.as_array()), Value::Array(other.as_array()));
        let plain = TableBuf::new().with("h", Value::I32(1));
        check(&plain, &[], None);
        check(&plain.clone().with("CC", one), &["a", "b"], None);
        check(&plain.clone().with("BCC", one), &["a", "b"], Some(&plain));
        check(&TableBuf::new().with("BCC", other), &["c"], Some(&TableBuf::new()));
        let both = TableBuf::new().with("BCC", other).with("CC", one);
        check(&both, &["a", "b", "c"], Some(&TableBuf::new().with("CC", one)));
    }

    #[test]
    fn copies_that_are_no_arrays_are_refused() {
        let refused = |headers: TableBuf| {
            let properties = Properties { headers: Some(headers.as_table()), ..Properties::default() };
            CarbonCopies::of(&properties).unwrap().check().unwrap_err().to_string()
        };
        assert_eq!(
            refused(TableBuf::new().with("CC", Value::LongStr(b"k"))),
            "invalid message: {unacceptable_type_in_header,\"CC\",longstr}"
        );
        assert_eq!(
            refused(TableBuf::new().with("BCC", Value::I32(1))),
            "invalid message: {unacceptable_type_in_header,\"BCC\",signedint}"
        );
    }
}
