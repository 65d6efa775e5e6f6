//! Arrays of field values: borrowed from the wire, or built and owned.
//!
//! Invariant: the octets of an [`Array`] were checked, so reading them cannot fail.

use std::fmt;

use crate::{Value, reader::Reader, writer::Writer};

/// An array of field values, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Array<'a> {
    octets: &'a [u8],
}

impl<'a> Array<'a> {
    /// The array without values.
    pub const EMPTY: Array<'static> = Array { octets: &[] };

    pub(crate) const fn from_valid(octets: &'a [u8]) -> Self {
        Self { octets }
    }

    /// The values without the array's length.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.octets
    }

    /// Whether there are no values.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.octets.is_empty()
    }

    /// The values in order.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        let mut reader = Reader::new(self.octets);
        std::iter::from_fn(move || {
            (reader.remaining() > 0)
                .then(|| Value::read(&mut reader).expect("arrays are checked when decoded"))
        })
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// An array of field values that is owned.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ArrayBuf {
    octets: Vec<u8>,
}

impl ArrayBuf {
    /// An array without values.
    #[must_use]
    pub const fn new() -> Self {
        Self { octets: Vec::new() }
    }

    /// Appends a value.
    pub fn push(&mut self, value: Value<'_>) {
        value.write(&mut Writer::new(&mut self.octets));
    }

    /// Appends a value and returns the array, for building in one expression.
    #[must_use]
    pub fn with(mut self, value: Value<'_>) -> Self {
        self.push(value);
        self
    }

    /// Borrows the values.
    #[must_use]
    pub fn as_array(&self) -> Array<'_> {
        Array::from_valid(&self.octets)
    }
}

impl fmt::Debug for ArrayBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_array().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableBuf;

    #[test]
    fn values_come_back_in_order_from_inside_a_table() {
        let array = ArrayBuf::new().with(Value::LongStr(b"key")).with(Value::Void).with(Value::U8(3));
        let table = TableBuf::new().with("a", Value::Array(array.as_array()));
        let Some(Value::Array(found)) = table.as_table().find("a") else { panic!("no array in {table:?}") };
        assert!(found.iter().eq([Value::LongStr(b"key"), Value::Void, Value::U8(3)]));
        assert!(Array::EMPTY.is_empty() && !found.is_empty());
    }
}
