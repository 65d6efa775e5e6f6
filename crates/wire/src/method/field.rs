//! How each type of method field stands on the wire.

use crate::{DecodeError, ShortStr, Table, reader::Reader, writer::Writer};

/// A field of a method.
pub(super) trait Field<'a>: Sized {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
    fn write(&self, writer: &mut Writer<'_>);

    /// Whether it is UTF-8 where it is meant to be text.
    #[inline]
    fn is_text(&self) -> bool {
        true
    }
}

macro_rules! integer_field {
    ($($type:ident),*) => {$(
        impl Field<'_> for $type {
            #[inline]
            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.$type()
            }
            #[inline]
            fn write(&self, writer: &mut Writer<'_>) {
                writer.octets(&self.to_be_bytes());
            }
        }
    )*};
}

integer_field!(u8, u16, u32, u64);

impl Field<'_> for bool {
    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.bit()
    }
    #[inline]
    fn write(&self, writer: &mut Writer<'_>) {
        writer.bit(*self);
    }
}

impl<'a> Field<'a> for ShortStr<'a> {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.short_str()
    }
    #[inline]
    fn write(&self, writer: &mut Writer<'_>) {
        writer.short_str(*self);
    }
    #[inline]
    fn is_text(&self) -> bool {
        self.to_str().is_some()
    }
}

/// A long string: octets with a length of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LongStr<'a>(pub &'a [u8]);

impl<'a> Field<'a> for LongStr<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.long_str().map(LongStr)
    }
    fn write(&self, writer: &mut Writer<'_>) {
        writer.long_str(self.0);
    }
}

impl<'a> Field<'a> for Table<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.table()
    }
    fn write(&self, writer: &mut Writer<'_>) {
        writer.table(*self);
    }
}

macro_rules! reserved_field {
    ($($(#[$doc:meta])* $name:ident, $read:ident, $write:ident($empty:expr);)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name;

        impl Field<'_> for $name {
            #[inline]
            fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.$read()?;
                Ok(Self)
            }
            #[inline]
            fn write(&self, writer: &mut Writer<'_>) {
                writer.$write($empty);
            }
        }
    )*};
}

reserved_field! {
    /// A bit without meaning, which some clients set.
    ReservedBit, bit, bit(false);
    /// A short integer without meaning: the access ticket of old.
    ReservedShort, u16, octets(&[0, 0]);
    /// A short string without meaning.
    ReservedShortStr, short_str, short_str(ShortStr::EMPTY);
    /// A long string without meaning.
    ReservedLongStr, long_str, long_str(&[]);
}
