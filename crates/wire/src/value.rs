//! Field values (section 4.2.5.5, with the type octets that RabbitMQ uses).
//!
//! | octet | type | | octet | type |
//! |---|---|---|---|---|
//! | `t` | bool | | `d` | double |
//! | `b` | i8 | | `D` | decimal |
//! | `B` | u8 | | `S` | long string |
//! | `s` | i16 | | `A` | array |
//! | `u` | u16 | | `T` | timestamp, seconds |
//! | `I` | i32 | | `F` | table |
//! | `i` | u32 | | `V` | void |
//! | `l` | i64 | | `x` | octets |
//! | `f` | float | | `L` | i64 too, as some clients write it |

use crate::{Array, DecodeError, Table, reader::Reader, writer::Writer};

/// How deep tables and arrays may be nested in one another.
pub const TABLE_DEPTH_MAX: usize = 1024;

/// A field value, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`, and `L` when read.
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` shifted right by `scale` decimal digits.
    Decimal {
        /// Decimal digits behind the point.
        scale: u8,
        /// The digits.
        value: u32,
    },
    /// `S`: octets, text by custom.
    LongStr(&'a [u8]),
    /// `x`
    Octets(&'a [u8]),
    /// `A`
    Array(Array<'a>),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`
    Table(Table<'a>),
    /// `V`
    Void,
}

impl<'a> Value<'a> {
    /// The number, when this is an integer of any width.
    #[must_use]
    pub fn as_integer(self) -> Option<i64> {
        match self {
            Self::I8(n) => Some(n.into()),
            Self::U8(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I64(n) => Some(n),
            _ => None,
        }
    }

    /// The text, when this is a long string of UTF-8.
    #[must_use]
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Self::LongStr(octets) => str::from_utf8(octets).ok(),
            _ => None,
        }
    }

    /// The type's name as RabbitMQ's error texts have it.
    #[must_use]
    pub const fn type_name(self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongStr(_) => "longstr",
            Self::Octets(_) => "binary",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Void => "void",
        }
    }

    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            b't' => Self::Bool(reader.u8()? != 0),
            b'b' => Self::I8(reader.i8()?),
            b'B' => Self::U8(reader.u8()?),
            b's' => Self::I16(reader.i16()?),
            b'u' => Self::U16(reader.u16()?),
            b'I' => Self::I32(reader.i32()?),
            b'i' => Self::U32(reader.u32()?),
            b'l' | b'L' => Self::I64(reader.i64()?),
            b'f' => Self::F32(reader.f32()?),
            b'd' => Self::F64(reader.f64()?),
            b'D' => Self::Decimal { scale: reader.u8()?, value: reader.u32()? },
            b'S' => Self::LongStr(reader.long_str()?),
            b'x' => Self::Octets(reader.long_str()?),
            b'A' => Self::Array(Array::from_valid(reader.long_str()?)),
            b'T' => Self::Timestamp(reader.u64()?),
            b'F' => Self::Table(Table::from_valid(reader.long_str()?)),
            b'V' => Self::Void,
            other => return Err(DecodeError::UnknownFieldType(other)),
        })
    }

    pub(crate) fn write(self, writer: &mut Writer<'_>) {
        match self {
            Self::Bool(value) => writer.octets(&[b't', value.into()]),
            Self::I8(n) => write_tagged(writer, b'b', &n.to_be_bytes()),
            Self::U8(n) => write_tagged(writer, b'B', &n.to_be_bytes()),
            Self::I16(n) => write_tagged(writer, b's', &n.to_be_bytes()),
            Self::U16(n) => write_tagged(writer, b'u', &n.to_be_bytes()),
            Self::I32(n) => write_tagged(writer, b'I', &n.to_be_bytes()),
            Self::U32(n) => write_tagged(writer, b'i', &n.to_be_bytes()),
            Self::I64(n) => write_tagged(writer, b'l', &n.to_be_bytes()),
            Self::F32(n) => write_tagged(writer, b'f', &n.to_be_bytes()),
            Self::F64(n) => write_tagged(writer, b'd', &n.to_be_bytes()),
            Self::Decimal { scale, value } => {
                writer.octets(&[b'D', scale]);
                writer.octets(&value.to_be_bytes());
            }
            Self::LongStr(octets) => write_long(writer, b'S', octets),
            Self::Octets(octets) => write_long(writer, b'x', octets),
            Self::Array(array) => write_long(writer, b'A', array.as_bytes()),
            Self::Timestamp(seconds) => write_tagged(writer, b'T', &seconds.to_be_bytes()),
            Self::Table(table) => write_long(writer, b'F', table.as_bytes()),
            Self::Void => writer.octets(b"V"),
        }
    }
}

fn write_tagged(writer: &mut Writer<'_>, tag: u8, octets: &[u8]) {
    writer.octets(&[tag]);
    writer.octets(octets);
}

fn write_long(writer: &mut Writer<'_>, tag: u8, octets: &[u8]) {
    writer.octets(&[tag]);
    writer.long_str(octets);
}

/// Checks that `octets` are a table: names, values, nesting of at most [`TABLE_DEPTH_MAX`].
pub(crate) fn validate_table(octets: &[u8], depth: usize) -> Result<(), DecodeError> {
    if depth >= TABLE_DEPTH_MAX {
        return Err(DecodeError::TooDeep);
    }
    let mut reader = Reader::new(octets);
    while reader.remaining() > 0 {
        reader.short_str()?;
        validate_value(&mut reader, depth)?;
    }
    Ok(())
}

fn validate_array(octets: &[u8], depth: usize) -> Result<(), DecodeError> {
    if depth >= TABLE_DEPTH_MAX {
        return Err(DecodeError::TooDeep);
    }
    let mut reader = Reader::new(octets);
    while reader.remaining() > 0 {
        validate_value(&mut reader, depth)?;
    }
    Ok(())
}

fn validate_value(reader: &mut Reader<'_>, depth: usize) -> Result<(), DecodeError> {
    match Value::read(reader)? {
        Value::Table(table) => validate_table(table.as_bytes(), depth + 1),
        Value::Array(array) => validate_array(array.as_bytes(), depth + 1),
        _ => Ok(()),
    }
}
