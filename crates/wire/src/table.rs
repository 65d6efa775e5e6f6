//! Field tables: borrowed from the wire, or built and owned.
//!
//! Invariant: the octets of a [`Table`] were checked, so reading them cannot fail.

use std::fmt;

use crate::{DecodeError, ShortStr, Value, reader::Reader, value, writer::Writer};

/// A field table, borrowed. Names may repeat; the first one counts, as in RabbitMQ.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Table<'a> {
    octets: &'a [u8],
}

impl<'a> Table<'a> {
    /// The table without fields.
    pub const EMPTY: Table<'static> = Table { octets: &[] };

    /// Checks `octets`, which are a table without its length.
    ///
    /// # Errors
    /// [`DecodeError`] when they are cut short, of unknown types or nested too deep.
    pub fn new(octets: &'a [u8]) -> Result<Self, DecodeError> {
        value::validate_table(octets, 0)?;
        Ok(Self { octets })
    }

    pub(crate) const fn from_valid(octets: &'a [u8]) -> Self {
        Self { octets }
    }

    /// The fields without the table's length.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.octets
    }

    /// Whether there are no fields.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.octets.is_empty()
    }

    /// The fields in order.
    pub fn iter(self) -> impl Iterator<Item = (ShortStr<'a>, Value<'a>)> {
        let mut reader = Reader::new(self.octets);
        std::iter::from_fn(move || {
            if reader.remaining() == 0 {
                return None;
            }
            let name = reader.short_str().expect("tables are checked when decoded");
            let value = Value::read(&mut reader).expect("tables are checked when decoded");
            Some((name, value))
        })
    }

    /// The value of the first field of that name.
    #[must_use]
    pub fn find(self, name: &str) -> Option<Value<'a>> {
        self.iter().find(|(found, _)| found.as_bytes() == name.as_bytes()).map(|(_, value)| value)
    }
}

impl fmt::Debug for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A field table that is owned.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TableBuf {
    octets: Vec<u8>,
}

impl TableBuf {
    /// A table without fields.
    #[must_use]
    pub const fn new() -> Self {
        Self { octets: Vec::new() }
    }

    /// Appends a field.
    pub fn push(&mut self, name: &str, value: Value<'_>) {
        self.push_field(ShortStr::truncated(name), value);
    }

    /// Appends a field whose name may be any octets.
    pub fn push_field(&mut self, name: ShortStr<'_>, value: Value<'_>) {
        let mut writer = Writer::new(&mut self.octets);
        writer.short_str(name);
        value.write(&mut writer);
    }

    /// Appends a field and returns the table, for building in one expression.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value<'_>) -> Self {
        self.push(name, value);
        self
    }

    /// The same fields in the order of their names, so that equal tables have equal octets.
    #[must_use]
    pub fn sorted(table: Table<'_>) -> Self {
        let mut fields: Vec<_> = table.iter().collect();
        fields.sort_by_key(|(name, _)| *name);
        let mut sorted = Self::new();
        for (name, value) in fields {
            sorted.push_field(name, value);
        }
        sorted
    }

    /// Borrows the fields.
    #[must_use]
    pub fn as_table(&self) -> Table<'_> {
        Table::from_valid(&self.octets)
    }
}

impl From<Table<'_>> for TableBuf {
    fn from(table: Table<'_>) -> Self {
        Self { octets: table.as_bytes().to_vec() }
    }
}

impl fmt::Debug for TableBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_table().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order_and_the_first_of_a_name_counts() {
        let table = TableBuf::new()
            .with("b", Value::I32(-1))
            .with("a", Value::LongStr(b"text"))
            .with("b", Value::Bool(true));
        let names: Vec<_> = table.as_table().iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["b", "a", "b"]);
        assert_eq!(table.as_table().find("b"), Some(Value::I32(-1)));
        assert_eq!(table.as_table().find("c"), None);
    }

    #[test]
    fn order_does_not_matter_once_sorted() {
        let one = TableBuf::new().with("a", Value::Void).with("b", Value::U8(1));
        let other = TableBuf::new().with("b", Value::U8(1)).with("a", Value::Void);
        assert_ne!(one, other);
        assert_eq!(TableBuf::sorted(one.as_table()), TableBuf::sorted(other.as_table()));
    }

    #[test]
    fn nesting_is_bounded() {
        let mut table = TableBuf::new();
        for _ in 0..value::TABLE_DEPTH_MAX - 1 {
            table = TableBuf::new().with("t", Value::Table(table.as_table()));
        }
        assert!(Table::new(table.as_table().as_bytes()).is_ok());
        table = TableBuf::new().with("t", Value::Table(table.as_table()));
        assert_eq!(Table::new(table.as_table().as_bytes()), Err(DecodeError::TooDeep));
    }

    #[test]
    fn both_spellings_of_a_long_integer_are_read() {
        let octets = b"\x01aL\xff\xff\xff\xff\xff\xff\xff\xfb\x01bl\0\0\0\0\0\0\0\x05";
        let table = Table::new(octets).unwrap();
        assert_eq!(table.find("a"), Some(Value::I64(-5)));
        assert_eq!(table.find("b"), Some(Value::I64(5)));
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        assert_eq!(Table::new(&[1, b'a', b'S', 0xff, 0xff, 0xff, 0xff]), Err(DecodeError::Truncated));
        assert_eq!(Table::new(&[5, b'a']), Err(DecodeError::Truncated));
        assert_eq!(Table::new(&[1, b'a', b'?']), Err(DecodeError::UnknownFieldType(b'?')));
    }
}
