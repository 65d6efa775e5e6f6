//! The files of the journal: how they are named and how they begin.
//!
//! ```text
//!   0                8          12         16        24        32               40        44      48
//!   +----------------+----------+----------+---------+---------+----------------+---------+-------+
//!   | "LvrtJrnl"     | version  | zeros    | number  | first   | zeros          | crc32c  | zeros |
//!   |                | u32 LE   |          | u64 LE  | position| 8 octets       | u32 LE  |       |
//!   +----------------+----------+----------+---------+---------+----------------+---------+-------+
//! ```
//!
//! Entries follow, the first one at the first position. Invariant: all of the journal before a
//! segment's first position was on stable storage when the segment began; what an earlier one holds
//! from there on was never told to be there, and is not read.

use thiserror::Error;

use super::entry::Position;

/// Octets in front of the entries.
pub const SEGMENT_HEADER_OCTETS: usize = 48;
/// The version that is written, and the latest that can be read. Version 1 says nothing of messages that
/// came back.
pub const SEGMENT_VERSION: u32 = 2;

const MAGIC: &[u8; 8] = b"LvrtJrnl";
const PREFIX: &str = "journal-";
const CRC_AT: usize = 40;

/// How a segment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its number, one more than that of the segment before.
    pub number: u64,
    /// Where its first entry stands.
    pub first: Position,
}

/// Why a file cannot be read as a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadHeader {
    /// It is cut or changed, or none of ours.
    #[error("its header is damaged")]
    Damaged,
    /// A newer broker wrote it.
    #[error("it has version {0}, and this program reads versions up to {SEGMENT_VERSION}")]
    Newer(u32),
}

impl SegmentHeader {
    /// As it stands in the file.
    #[must_use]
    pub fn to_octets(&self) -> [u8; SEGMENT_HEADER_OCTETS] {
        let mut octets = [0; SEGMENT_HEADER_OCTETS];
        octets[..8].copy_from_slice(MAGIC);
        octets[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        octets[16..24].copy_from_slice(&self.number.to_le_bytes());
        octets[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        let crc = crc32c::crc32c(&octets[..CRC_AT]);
        octets[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        octets
    }

    /// From the beginning of a file.
    ///
    /// # Errors
    /// [`BadHeader`] when it is none that this program can read.
    pub fn read(file: &[u8]) -> Result<Self, BadHeader> {
        let octets: &[u8; SEGMENT_HEADER_OCTETS] = file.first_chunk().ok_or(BadHeader::Damaged)?;
        let word =
            |at: usize| u32::from_le_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if octets[..8] != *MAGIC || word(CRC_AT) != crc32c::crc32c(&octets[..CRC_AT]) {
            return Err(BadHeader::Damaged);
        }
        if word(8) > SEGMENT_VERSION {
            return Err(BadHeader::Newer(word(8)));
        }
        Ok(Self { number: long(16), first: Position(long(24)) })
    }
}

/// The name of a segment's file.
#[must_use]
pub fn segment_name(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}

/// The number of the segment in a file of that name, if it is one.
#[must_use]
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_every_flipped_bit_is_found() {
        let header = SegmentHeader { number: 3, first: Position(1 << 33) };
        let octets = header.to_octets();
        assert_eq!(SegmentHeader::read(&octets), Ok(header));
        for bit in 0..(CRC_AT + 4) * 8 {
            let mut damaged = octets;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::read(&damaged), Err(BadHeader::Damaged), "bit {bit}");
        }
        assert_eq!(SegmentHeader::read(&octets[..47]), Err(BadHeader::Damaged));
    }

    #[test]
    fn a_newer_version_is_told() {
        let mut octets = SegmentHeader { number: 0, first: Position(0) }.to_octets();
        octets[8] = 3;
        let crc = crc32c::crc32c(&octets[..CRC_AT]);
        octets[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::read(&octets), Err(BadHeader::Newer(3)));
    }

    #[test]
    fn names_and_numbers_belong_together() {
        assert_eq!(segment_number(&segment_name(0xabc)), Some(0xabc));
        for name in
            ["journal-1", "journal-zzzzzzzzzzzzzzzz", "pages-0000000000000001", "journal-00000000000000011"]
        {
            assert_eq!(segment_number(name), None);
        }
    }
}
