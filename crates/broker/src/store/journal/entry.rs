//! What stands in the journal: entries, each with its checksums, at a position.
//!
//! ```text
//!   0         4         8      9          12        16
//!   +---------+---------+------+----------+---------+-----------------+---------+
//!   | payload | payload | kind | zeros    | head    | payload         | zeros   |
//!   | octets  | crc32c  |      |          | crc32c  |                 | up to 8 |
//!   +---------+---------+------+----------+---------+-----------------+---------+
//!    u32 LE    u32 LE    u8     3 octets   u32 LE
//! ```
//!
//! The head's checksum covers the position (u64 LE) and the twelve octets before it, so that an
//! entry is one at its own position only, and the next one is found behind damage by looking at
//! every eighth octet. What a payload says is for `operation`. Invariant: an entry whose checksums
//! hold was written there by us.

use crate::planted::{self, Bug};

/// Octets in front of a payload.
pub const HEAD_OCTETS: usize = 16;
/// Entries begin at multiples of this.
pub const ALIGNMENT: usize = 8;
/// Octets that a payload may have: the largest message and what stands with it, by far.
pub const PAYLOAD_OCTETS_MAX: usize = 1 << 30;

/// Where in the history of a journal an octet stands: how many were written before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// That many octets behind.
    #[must_use]
    pub const fn plus(self, octets: usize) -> Self {
        Self(self.0 + octets as u64)
    }

    /// How many octets behind `earlier` this is.
    #[must_use]
    pub const fn behind(self, earlier: Self) -> u64 {
        self.0 - earlier.0
    }
}

/// The head of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What kind of entry it is.
    pub kind: u8,
    /// How long the payload is.
    pub payload_octets: usize,
    payload_crc: u32,
}

impl Head {
    /// Of an entry with a payload of those parts, one behind the other.
    ///
    /// # Panics
    /// When they are longer than [`PAYLOAD_OCTETS_MAX`], which only our own bug could cause.
    #[must_use]
    pub fn new(kind: u8, parts: &[&[u8]]) -> Self {
        let payload_octets = parts.iter().map(|part| part.len()).sum();
        assert!(payload_octets <= PAYLOAD_OCTETS_MAX, "batches are bounded far below");
        let payload_crc = parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
        Self { kind, payload_octets, payload_crc }
    }

    /// Octets of the whole entry.
    #[must_use]
    pub const fn entry_octets(&self) -> usize {
        HEAD_OCTETS + self.payload_octets.next_multiple_of(ALIGNMENT)
    }

    /// Appends the entry, which begins at that position.
    pub fn write(&self, position: Position, parts: &[&[u8]], out: &mut Vec<u8>) {
        let start = out.len();
        let octets = u32::try_from(self.payload_octets).expect("payloads are bounded");
        let mut head = [0; HEAD_OCTETS];
        head[..4].copy_from_slice(&octets.to_le_bytes());
        head[4..8].copy_from_slice(&self.payload_crc.to_le_bytes());
        head[8] = self.kind;
        let crc = head_crc(position, &head);
        head[12..].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&head);
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out.resize(start + self.entry_octets(), 0);
    }

    /// The head at the beginning of `octets`, which stand at that position. `None` when there is
    /// none that is whole.
    #[must_use]
    pub fn read(position: Position, octets: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD_OCTETS] = octets.first_chunk()?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let payload_octets = word(0) as usize;
        let is_whole = word(12) == head_crc(position, head) && payload_octets <= PAYLOAD_OCTETS_MAX;
        is_whole.then(|| Self { kind: head[8], payload_octets, payload_crc: word(4) })
    }

    /// The payload, where `entry` begins with this head. `None` when it is cut or damaged.
    #[must_use]
    pub fn payload<'a>(&self, entry: &'a [u8]) -> Option<&'a [u8]> {
        let payload = entry.get(HEAD_OCTETS..HEAD_OCTETS + self.payload_octets)?;
        (crc32c::crc32c(payload) == self.payload_crc || planted::is(Bug::TornRecordTaken)).then_some(payload)
    }
}

fn head_crc(position: Position, head: &[u8; HEAD_OCTETS]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&position.0.to_le_bytes()), &head[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(position: Position, parts: &[&[u8]]) -> Vec<u8> {
        let mut octets = Vec::new();
        Head::new(7, parts).write(position, parts, &mut octets);
        octets
    }

    #[test]
    fn an_entry_comes_back_at_its_position_only() {
        for length in [0, 1, 7, 8, 9, 1000] {
            let (payload, at) = (vec![5; length], Position(1 << 40));
            let octets = entry(at, &[&payload[..length / 2], &payload[length / 2..]]);
            assert_eq!(octets.len() % ALIGNMENT, 0);
            let head = Head::read(at, &octets).unwrap();
            assert_eq!((head.kind, head.entry_octets()), (7, octets.len()));
            assert_eq!(head.payload(&octets).unwrap(), payload);
            assert_eq!(Head::read(Position(at.0 + 8), &octets), None);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let at = Position(4096);
        let octets = entry(at, &[b"some payload"]);
        let is_found = |octets: &[u8]| Head::read(at, octets).and_then(|head| head.payload(octets)).is_none();
        // What fills up to the next entry says nothing.
        let told = HEAD_OCTETS + b"some payload".len();
        for bit in 0..told * 8 {
            let mut damaged = octets.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(is_found(&damaged), "bit {bit}");
        }
        for length in 0..told {
            assert!(is_found(&octets[..length]), "cut at {length}");
        }
    }
}
