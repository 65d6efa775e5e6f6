//! Writing fields one behind the other into the caller's buffer.

use crate::{ShortStr, Table};

/// Appends fields; consecutive bits share an octet.
pub(crate) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// Which bit of the last octet comes next; 0 starts a new octet.
    next_bit: u8,
}

impl<'o> Writer<'o> {
    pub(crate) const fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, next_bit: 0 }
    }

    #[inline]
    pub(crate) fn octets(&mut self, octets: &[u8]) {
        self.out.extend_from_slice(octets);
        self.next_bit = 0;
    }

    #[inline]
    pub(crate) fn bit(&mut self, bit: bool) {
        if self.next_bit == 0 {
            self.out.push(0);
        }
        let last = self.out.last_mut().expect("an octet for bits was pushed");
        *last |= u8::from(bit) << self.next_bit;
        self.next_bit = (self.next_bit + 1) % 8;
    }

    #[inline]
    pub(crate) fn short_str(&mut self, text: ShortStr<'_>) {
        let length = u8::try_from(text.len()).expect("a short string is at most 255 octets");
        self.octets(&[length]);
        self.octets(text.as_bytes());
    }

    pub(crate) fn long_str(&mut self, octets: &[u8]) {
        let length = u32::try_from(octets.len()).expect("our own long strings are far below 4 GiB");
        self.octets(&length.to_be_bytes());
        self.octets(octets);
    }

    pub(crate) fn table(&mut self, table: Table<'_>) {
        self.long_str(table.as_bytes());
    }
}
