//! Values of argument and header tables, as scripts hold them.
//!
//! Knows how they become a table on the wire; not what any of them means.
//! Invariant: every type that the wire has can be written in a script.

use leveret_wire::{ArrayBuf, ShortStr, TableBuf, Value};
use serde::{Deserialize, Serialize};

use super::names::Names;

/// A value in a table. Texts hold the marks that [`Names`] replaces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Field {
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    F32(f32),
    F64(f64),
    Decimal(u8, u32),
    Text(String),
    Octets(String),
    Array(Vec<Field>),
    Timestamp(u64),
    Table(Fields),
    Void,
}

/// The fields of a table, in their order.
pub(super) type Fields = Vec<(String, Field)>;

impl Field {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Gives `take` the value as the wire has it.
    fn with_value<T>(&self, names: &Names, take: impl FnOnce(Value<'_>) -> T) -> T {
        match self {
            Self::Bool(value) => take(Value::Bool(*value)),
            Self::I8(n) => take(Value::I8(*n)),
            Self::U8(n) => take(Value::U8(*n)),
            Self::I16(n) => take(Value::I16(*n)),
            Self::U16(n) => take(Value::U16(*n)),
            Self::I32(n) => take(Value::I32(*n)),
            Self::U32(n) => take(Value::U32(*n)),
            Self::I64(n) => take(Value::I64(*n)),
            Self::F32(n) => take(Value::F32(*n)),
            Self::F64(n) => take(Value::F64(*n)),
            Self::Decimal(scale, value) => take(Value::Decimal { scale: *scale, value: *value }),
            Self::Text(text) => take(Value::LongStr(&names.octets_of(text))),
            Self::Octets(text) => take(Value::Octets(&names.octets_of(text))),
            Self::Array(values) => take(Value::Array(array(values, names).as_array())),
            Self::Timestamp(seconds) => take(Value::Timestamp(*seconds)),
            Self::Table(fields) => take(Value::Table(table(fields, names).as_table())),
            Self::Void => take(Value::Void),
        }
    }
}

fn array(values: &[Field], names: &Names) -> ArrayBuf {
    let mut array = ArrayBuf::new();
    for value in values {
        value.with_value(names, |value| array.push(value));
    }
    array
}

/// The table that these fields are.
pub(super) fn table(fields: &[(String, Field)], names: &Names) -> TableBuf {
    let mut table = TableBuf::new();
    for (name, value) in fields {
        let name = names.octets_of(name);
        let name = ShortStr::new(&name).unwrap_or_default();
        value.with_value(names, |value| table.push_field(name, value));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reaches_the_wire() {
        let all = vec![
            Field::Bool(true),
            Field::I8(-1),
            Field::U8(1),
            Field::I16(-1),
            Field::U16(1),
            Field::I32(-1),
            Field::U32(1),
            Field::I64(-1),
            Field::F32(0.5),
            Field::F64(0.5),
            Field::Decimal(2, 314),
            Field::text("~t"),
            Field::Octets("o".to_owned()),
            Field::Timestamp(9),
            Field::Table(vec![("n".to_owned(), Field::Void)]),
            Field::Void,
        ];
        let fields = vec![("a".to_owned(), Field::Array(all))];
        let names = Names::new("p-".to_owned());
        let table = table(&fields, &names);
        let Some(Value::Array(array)) = table.as_table().find("a") else { panic!("{table:?}") };
        let types: Vec<_> = array.iter().map(Value::type_name).collect();
        let wanted = "bool byte unsignedbyte short unsignedshort signedint unsignedint long float double \
                      decimal longstr binary timestamp table void";
        assert_eq!(types.join(" "), wanted);
        assert!(array.iter().any(|value| value == Value::LongStr(b"p-t")));
        let written = serde_json::to_string(&fields).unwrap();
        assert_eq!(serde_json::from_str::<Fields>(&written).unwrap(), fields);
    }
}
