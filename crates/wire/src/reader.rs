//! Reading fields one behind the other from a payload.
//!
//! Invariant: nothing is read beyond the payload, and no length taken from it is trusted.

use crate::{DecodeError, ShortStr, Table, value};

/// A cursor over a payload. Consecutive bits share an octet, as section 4.2.5.2 packs them.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    bits: u8,
    bits_left: u8,
}

macro_rules! read_integer {
    ($name:ident, $type:ty) => {
        #[inline]
        pub(crate) fn $name(&mut self) -> Result<$type, DecodeError> {
            self.chunk().map(<$type>::from_be_bytes)
        }
    };
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload, bits: 0, bits_left: 0 }
    }

    #[inline]
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        self.bits_left = 0;
        Ok(*chunk)
    }

    #[inline]
    pub(crate) fn octets(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (octets, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        self.bits_left = 0;
        Ok(octets)
    }

    read_integer!(u8, u8);
    read_integer!(i8, i8);
    read_integer!(u16, u16);
    read_integer!(i16, i16);
    read_integer!(u32, u32);
    read_integer!(i32, i32);
    read_integer!(u64, u64);
    read_integer!(i64, i64);
    read_integer!(f32, f32);
    read_integer!(f64, f64);

    #[inline]
    pub(crate) fn bit(&mut self) -> Result<bool, DecodeError> {
        if self.bits_left == 0 {
            self.bits = self.u8()?;
            self.bits_left = 8;
        }
        let bit = self.bits & 1 != 0;
        self.bits >>= 1;
        self.bits_left -= 1;
        Ok(bit)
    }

    #[inline]
    pub(crate) fn short_str(&mut self) -> Result<ShortStr<'a>, DecodeError> {
        let length = self.u8()?;
        let octets = self.octets(length.into())?;
        Ok(ShortStr::new(octets).expect("a length octet is at most 255"))
    }

    #[inline]
    pub(crate) fn long_str(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u32()?;
        self.octets(length as usize)
    }

    pub(crate) fn table(&mut self) -> Result<Table<'a>, DecodeError> {
        let octets = self.long_str()?;
        value::validate_table(octets, 0)?;
        Ok(Table::from_valid(octets))
    }

    pub(crate) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingOctets(self.rest.len())) }
    }
}
