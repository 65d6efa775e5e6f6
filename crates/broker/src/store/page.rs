//! A page: messages of one queue that follow one another, as they stand in a file.
//!
//! ```text
//!   0       4         8          16         24         28      32
//!   +-------+---------+----------+----------+----------+-------+-------------------+---------+
//!   | crc   | octets  | queue    | first    | messages | zeros | for each message: | records |
//!   |       | of page | serial   | ordinal  |          |       | number, offset    |         |
//!   +-------+---------+----------+----------+----------+-------+-------------------+---------+
//!    u32     u32       u64        u64        u32        u32     u32, u32
//! ```
//!
//! All little endian. The checksum (CRC-32C) is of all that stands behind it. A message's number is
//! its ordinal less the first one, below two flags: bit 31 says that it has the property
//! `expiration`, bit 30 that it was delivered before. Its offset counts from the page's beginning,
//! and a record stands as in a chunk (`record.rs`), so that a page that was read is one. Invariant:
//! what does not match its checksum, or the run that it was written for, is never taken.

use thiserror::Error;

use super::record::Record;
use crate::{AwayRun, Location, Ordinal};

const HEADER_OCTETS: usize = 32;
const ENTRY_OCTETS: usize = 8;
const EXPIRES: u32 = 1 << 31;
const REDELIVERED: u32 = 1 << 30;
const NUMBER_MASK: u32 = REDELIVERED - 1;

/// Why a page is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PageDamage {
    /// Octets are not what was written.
    #[error("its checksum does not match")]
    Checksum,
    /// It is whole, and of other messages.
    #[error("it is of other messages")]
    Foreign,
    /// What it says of itself does not fit together.
    #[error("its records do not fit together")]
    Malformed,
}

/// What was written as a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Octets of the page.
    pub octets: u32,
    /// The number of the last message.
    pub last: Ordinal,
    /// Octets of the bodies.
    pub body_octets: u64,
}

/// A page under construction, at the end of a buffer.
#[derive(Debug)]
pub struct PageWriter<'b> {
    buffer: &'b mut Vec<u8>,
    start: usize,
    first: Ordinal,
    last: Ordinal,
    added: usize,
    body_octets: u64,
}

impl<'b> PageWriter<'b> {
    /// Begins a page of so many messages of that queue, at least one.
    pub fn begin(buffer: &'b mut Vec<u8>, queue: u64, first: Ordinal, messages: u32) -> Self {
        let start = buffer.len();
        buffer.extend_from_slice(&[0; 8]);
        buffer.extend_from_slice(&queue.to_le_bytes());
        buffer.extend_from_slice(&first.0.to_le_bytes());
        buffer.extend_from_slice(&messages.to_le_bytes());
        buffer.extend_from_slice(&[0; 4]);
        buffer.resize(start + HEADER_OCTETS + messages as usize * ENTRY_OCTETS, 0);
        Self { buffer, start, first, last: first, added: 0, body_octets: 0 }
    }

    /// Adds a message: its number, its location's marks, and its record.
    pub fn add(&mut self, ordinal: Ordinal, location: Location, raw: &[u8]) {
        let number = u32::try_from(ordinal.0 - self.first.0).expect("a page is a part of a queue");
        assert!(number <= NUMBER_MASK, "a page has few numbers");
        let marks = if location.expires() { EXPIRES } else { 0 }
            | if location.redelivered() { REDELIVERED } else { 0 };
        let offset = u32::try_from(self.buffer.len() - self.start).expect("a page is far below 4 GiB");
        let at = self.start + HEADER_OCTETS + self.added * ENTRY_OCTETS;
        self.buffer[at..at + 4].copy_from_slice(&(number | marks).to_le_bytes());
        self.buffer[at + 4..at + 8].copy_from_slice(&offset.to_le_bytes());
        self.buffer.extend_from_slice(raw);
        self.body_octets += Record::at(raw, 0).body_octets as u64;
        self.last = ordinal;
        self.added += 1;
    }

    /// Ends the page, to which all its messages were added.
    #[must_use]
    pub fn finish(self) -> Written {
        let page = &mut self.buffer[self.start..];
        let octets = u32::try_from(page.len()).expect("a page is far below 4 GiB");
        page[4..8].copy_from_slice(&octets.to_le_bytes());
        let crc = crc32c::crc32c(&page[4..]);
        page[..4].copy_from_slice(&crc.to_le_bytes());
        Written { octets, last: self.last, body_octets: self.body_octets }
    }
}

/// A message of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageEntry {
    /// Its number in its queue.
    pub ordinal: Ordinal,
    /// Where its record begins.
    pub offset: u32,
    /// Whether it has the property `expiration`.
    pub expires: bool,
    /// Whether it was delivered before.
    pub redelivered: bool,
}

/// The messages of a page that was read, which must be the one that was written for that run.
///
/// # Errors
/// [`PageDamage`] when it is not.
pub fn entries(page: &[u8], queue: u64, away: &AwayRun) -> Result<Vec<PageEntry>, PageDamage> {
    if page.len() < HEADER_OCTETS || u32_at(page, 0) != crc32c::crc32c(&page[4..]) {
        return Err(PageDamage::Checksum);
    }
    let is_ours = u32_at(page, 4) as usize == page.len()
        && u64_at(page, 8) == queue
        && u64_at(page, 16) == away.first.0
        && u32_at(page, 24) == away.messages;
    if !is_ours {
        return Err(PageDamage::Foreign);
    }
    let table_end = HEADER_OCTETS + away.messages as usize * ENTRY_OCTETS;
    let table = page.get(HEADER_OCTETS..table_end).ok_or(PageDamage::Malformed)?;
    let entries: Vec<_> = table.chunks_exact(ENTRY_OCTETS).map(|entry| entry_at(entry, away)).collect();
    let rises = entries.is_sorted_by(|one, other| one.ordinal < other.ordinal);
    let whole = |entry: &PageEntry| {
        entry.offset as usize >= table_end && Record::is_whole(page, entry.offset as usize)
    };
    if !rises || !entries.iter().all(whole) {
        return Err(PageDamage::Malformed);
    }
    Ok(entries)
}

/// Octets of a message's record.
#[must_use]
pub fn record_octets(page: &[u8], entry: &PageEntry) -> usize {
    Record::raw(page, entry.offset as usize).len()
}

fn entry_at(entry: &[u8], away: &AwayRun) -> PageEntry {
    let number = u32_at(entry, 0);
    PageEntry {
        ordinal: Ordinal(away.first.0 + u64::from(number & NUMBER_MASK)),
        offset: u32_at(entry, 4),
        expires: number & EXPIRES != 0,
        redelivered: number & REDELIVERED != 0,
    }
}

fn u32_at(octets: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*octets[at..].first_chunk().expect("lengths were checked"))
}

fn u64_at(octets: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*octets[at..].first_chunk().expect("lengths were checked"))
}

#[cfg(test)]
mod tests {
    use leveret_wire::PublishRoute;

    use super::*;
    use crate::PagePlace;

    const QUEUE: u64 = 7;
    const FIRST: Ordinal = Ordinal(1 << 56 | 1000);

    fn page(messages: u32) -> (Vec<u8>, AwayRun) {
        let mut buffer = vec![9; 5];
        let mut writer = PageWriter::begin(&mut buffer, QUEUE, FIRST, messages);
        for (number, body_octets) in (0..u64::from(messages)).zip((0..).step_by(10)) {
            let mut raw = Vec::new();
            let route = PublishRoute::from_octets(b"\x01e\x01k").unwrap();
            Record::append(&mut raw, number, route, &[0, 0], &vec![1; body_octets]);
            let location = Location::new(3, 4).expiring(number % 2 == 1);
            writer.add(Ordinal(FIRST.0 + number * 3), location, &raw);
        }
        let written = writer.finish();
        let place = PagePlace { file: 0, octets: written.octets, offset: 5 };
        let Written { last, body_octets, .. } = written;
        let away = AwayRun { first: FIRST, last, messages, body_octets, page: place };
        (buffer.split_off(5), away)
    }

    #[test]
    fn a_page_comes_back_as_it_was_written() {
        let (page, away) = page(4);
        assert_eq!((away.last, away.body_octets), (Ordinal(FIRST.0 + 9), 60));
        let entries = entries(&page, QUEUE, &away).unwrap();
        let found: Vec<_> = entries.iter().map(|entry| (entry.ordinal.0 - FIRST.0, entry.expires)).collect();
        assert_eq!(found, [(0, false), (3, true), (6, false), (9, true)]);
        for (number, entry) in (0..).zip(&entries) {
            let record = Record::at(&page, entry.offset as usize);
            assert_eq!((record.arrived_millis, record.body_octets as u64), (number, number * 10));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let (page, away) = page(2);
        for at in 0..page.len() {
            for bit in 0..8 {
                let mut damaged = page.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(entries(&damaged, QUEUE, &away), Err(PageDamage::Checksum), "bit {bit} of {at}");
            }
            assert_eq!(entries(&page[..at], QUEUE, &away), Err(PageDamage::Checksum), "cut at {at}");
        }
    }

    #[test]
    fn a_page_of_other_messages_is_not_taken() {
        let (page, away) = page(2);
        let foreign = |queue, away: &AwayRun| entries(&page, queue, away).unwrap_err();
        assert_eq!(foreign(QUEUE + 1, &away), PageDamage::Foreign);
        assert_eq!(foreign(QUEUE, &AwayRun { first: Ordinal(1), ..away }), PageDamage::Foreign);
        assert_eq!(foreign(QUEUE, &AwayRun { messages: 1, ..away }), PageDamage::Foreign);
    }

    #[test]
    fn offsets_and_lengths_that_do_not_fit_are_refused_though_the_checksum_does() {
        let (page, away) = page(2);
        let record = entries(&page, QUEUE, &away).unwrap()[1].offset as usize;
        for at in (HEADER_OCTETS..HEADER_OCTETS + 16).chain(record..record + 22) {
            let mut damaged = page.clone();
            damaged[at] ^= 0x3f;
            let crc = crc32c::crc32c(&damaged[4..]);
            damaged[..4].copy_from_slice(&crc.to_le_bytes());
            // Whatever it makes of it, it does not panic, and neither does who reads the records.
            if let Ok(entries) = entries(&damaged, QUEUE, &away) {
                let bodies =
                    entries.iter().map(|entry| Record::at(&damaged, entry.offset as usize).body().len());
                assert!(bodies.sum::<usize>() <= 2 * damaged.len());
            }
        }
    }
}
