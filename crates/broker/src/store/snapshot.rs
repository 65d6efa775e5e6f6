//! Snapshots: all that is durable but the messages, as it was when the journal had got somewhere.
//!
//! ```text
//!   0            8          12      16       24        28     32
//!   +------------+----------+-------+--------+---------+------+---------+
//!   | "LvrtSnap" | version  | zeros | payload| payload | head | payload |
//!   |            | u32      |       | octets | crc32c  | crc  |         |
//!   +------------+----------+-------+--------+---------+------+---------+
//!
//!   payload: u64 first segment, u64 position, u64 last number given, u32 next file of pages,
//!            u32 definitions, { u32 octets, key, u32 octets, value }...,
//!            u32 queues, { u64 queue, u32 ranges, { u64 first, u64 last }...,
//!                          u32 pages, { u64 first, u64 last, u32 messages, u64 octets of bodies,
//!                                       u32 file, u32 octets, u64 offset }...,
//!                          u32 returns, { u64 ordinal, u32 count }... }...
//! ```
//!
//! All little endian; version 1 has no returns. Each is written twice, to `snapshot-*` and `snapshot-*-copy`, because without
//! one the definitions are lost. Invariant: carrying out again what the journal has from the first
//! segment on makes of a snapshot what there was at its end.

use std::{collections::BTreeMap, io};

use super::{
    disk::Disk,
    journal::{Position, QueueNumber},
    ranges::{Range, RangeSet},
    returns::{Return, Returns},
};
use crate::{
    AwayRun, Ordinal, PagePlace,
    planted::{self, Bug},
};

/// The version that is written, and the latest that can be read.
pub const SNAPSHOT_VERSION: u32 = 2;
/// The first version that says which messages came back.
const RETURNS_VERSION: u32 = 2;

const MAGIC: &[u8; 8] = b"LvrtSnap";
const HEADER_OCTETS: usize = 32;
const PREFIX: &str = "snapshot-";
const COPY_SUFFIX: &str = "-copy";

/// A durable queue's messages, as far as a snapshot tells of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueState {
    /// Ordinals of messages that left it for good.
    pub gone: RangeSet,
    /// Its pages that last, in order.
    pub kept: Vec<AwayRun>,
    /// How often its messages came back, if it counts that.
    pub returns: Returns,
}

/// What a snapshot says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The first segment of the journal to carry out again.
    pub first_segment: u64,
    /// Up to where the journal was synced.
    pub position: Position,
    /// The last number that a queue, an exchange or a connection was given.
    pub last_number: u64,
    /// The number of the next file of pages.
    pub next_kept_file: u32,
    /// Definitions by their keys.
    pub definitions: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Queues by their numbers.
    pub queues: BTreeMap<QueueNumber, QueueState>,
}

/// Why there is no snapshot in some octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSnapshot {
    /// They are cut or changed, or none of ours.
    #[error("it is damaged")]
    Damaged,
    /// A newer broker wrote it.
    #[error("it has version {0}, and this program reads versions up to {SNAPSHOT_VERSION}")]
    Newer(u32),
}

impl Snapshot {
    /// As it stands in a file.
    #[must_use]
    pub fn to_octets(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_OCTETS];
        self.write_payload(&mut out);
        let octets = (out.len() - HEADER_OCTETS) as u64;
        let crc = crc32c::crc32c(&out[HEADER_OCTETS..]);
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&octets.to_le_bytes());
        out[24..28].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..28]);
        out[28..32].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn write_payload(&self, out: &mut Vec<u8>) {
        for number in [self.first_segment, self.position.0, self.last_number] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.next_kept_file.to_le_bytes());
        write_count(out, self.definitions.len());
        for text in self.definitions.iter().flat_map(|(key, value)| [key, value]) {
            write_count(out, text.len());
            out.extend_from_slice(text);
        }
        write_count(out, self.queues.len());
        for (queue, state) in &self.queues {
            out.extend_from_slice(&queue.0.to_le_bytes());
            write_count(out, state.gone.len());
            for Range { first, last } in state.gone.iter() {
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&last.to_le_bytes());
            }
            write_count(out, state.kept.len());
            state.kept.iter().for_each(|run| write_run(out, run));
            write_count(out, state.returns.len());
            for Return { ordinal, count } in state.returns.iter() {
                out.extend_from_slice(&ordinal.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
    }

    /// From the octets of a file.
    ///
    /// # Errors
    /// [`BadSnapshot`] when they are none that this program can read.
    pub fn read(file: &[u8]) -> Result<Self, BadSnapshot> {
        let (head, payload) = file.split_first_chunk::<HEADER_OCTETS>().ok_or(BadSnapshot::Damaged)?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if head[..8] != *MAGIC || word(28) != crc32c::crc32c(&head[..28]) {
            return Err(BadSnapshot::Damaged);
        }
        if word(8) > SNAPSHOT_VERSION {
            return Err(BadSnapshot::Newer(word(8)));
        }
        if word(24) != crc32c::crc32c(payload) {
            return Err(BadSnapshot::Damaged);
        }
        Reader { rest: payload, version: word(8) }.snapshot().ok_or(BadSnapshot::Damaged)
    }

    /// Writes it twice, as number `number`, and syncs both with their names.
    ///
    /// # Errors
    /// What the disk says; then the one before holds still, and what was written of this one is removed as
    /// far as the disk lets it.
    pub fn write(&self, disk: &dyn Disk, number: u64) -> io::Result<()> {
        let written = self.write_files(disk, number);
        if written.is_err() {
            both_names(number).iter().for_each(|name| drop(disk.remove(name)));
        }
        written
    }

    fn write_files(&self, disk: &dyn Disk, number: u64) -> io::Result<()> {
        let octets = self.to_octets();
        for name in both_names(number) {
            let file = disk.create(&name)?;
            file.write_at(&octets, 0)?;
            if !planted::is(Bug::SnapshotNotSynced) {
                file.sync()?;
            }
        }
        if planted::is(Bug::SnapshotNotSynced) { Ok(()) } else { disk.sync_names() }
    }

    /// Syncs both files of the snapshot of that number, and their names.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(disk: &dyn Disk, number: u64) -> io::Result<()> {
        for name in both_names(number) {
            disk.open(&name)?.sync()?;
        }
        disk.sync_names()
    }
}

fn both_names(number: u64) -> [String; 2] {
    [snapshot_name(number), format!("{}{COPY_SUFFIX}", snapshot_name(number))]
}

fn snapshot_name(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}

/// The number of the snapshot in a file of that name, if it is one or its copy.
#[must_use]
pub fn snapshot_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    let digits = digits.strip_suffix(COPY_SUFFIX).unwrap_or(digits);
    u64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16)
}

fn write_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("fewer than 2^32 of anything");
    out.extend_from_slice(&count.to_le_bytes());
}

fn write_run(out: &mut Vec<u8>, run: &AwayRun) {
    out.extend_from_slice(&run.first.0.to_le_bytes());
    out.extend_from_slice(&run.last.0.to_le_bytes());
    out.extend_from_slice(&run.messages.to_le_bytes());
    out.extend_from_slice(&run.body_octets.to_le_bytes());
    out.extend_from_slice(&run.page.file.to_le_bytes());
    out.extend_from_slice(&run.page.octets.to_le_bytes());
    out.extend_from_slice(&run.page.offset.to_le_bytes());
}

/// Reads what has a checksum that matches; what does not fit together all the same is damage.
struct Reader<'a> {
    rest: &'a [u8],
    version: u32,
}

impl Reader<'_> {
    fn snapshot(&mut self) -> Option<Snapshot> {
        let first_segment = self.u64()?;
        let position = Position(self.u64()?);
        let last_number = self.u64()?;
        let next_kept_file = self.u32()?;
        let mut definitions = BTreeMap::new();
        for _ in 0..self.u32()? {
            definitions.insert(self.text()?, self.text()?);
        }
        let mut queues = BTreeMap::new();
        for _ in 0..self.u32()? {
            queues.insert(QueueNumber(self.u64()?), self.queue()?);
        }
        let whole = self.rest.is_empty();
        whole.then_some(Snapshot {
            first_segment,
            position,
            last_number,
            next_kept_file,
            definitions,
            queues,
        })
    }

    fn queue(&mut self) -> Option<QueueState> {
        let mut state = QueueState::default();
        for _ in 0..self.u32()? {
            let (first, last) = (self.u64()?, self.u64()?);
            state.gone.insert((first <= last).then_some(Range { first, last })?);
        }
        for _ in 0..self.u32()? {
            state.kept.push(self.run()?);
        }
        let returns = if self.version >= RETURNS_VERSION { self.u32()? } else { 0 };
        for _ in 0..returns {
            let (ordinal, count) = (self.u64()?, self.u32()?);
            state.returns.note((count > 0).then_some(Return { ordinal, count })?);
        }
        Some(state)
    }

    fn run(&mut self) -> Option<AwayRun> {
        let (first, last) = (Ordinal(self.u64()?), Ordinal(self.u64()?));
        let (messages, body_octets) = (self.u32()?, self.u64()?);
        let page = PagePlace { file: self.u32()?, octets: self.u32()?, offset: self.u64()? };
        (first <= last).then_some(AwayRun { first, last, messages, body_octets, page })
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let octets = self.u32()? as usize;
        let (text, rest) = self.rest.split_at_checked(octets)?;
        self.rest = rest;
        Some(text.to_vec())
    }

    fn u32(&mut self) -> Option<u32> {
        self.octets().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.octets().map(u64::from_le_bytes)
    }

    fn octets<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (octets, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let page = PagePlace { file: 1 << 31, octets: 99, offset: 1 << 40 };
        let run = AwayRun { first: Ordinal(3), last: Ordinal(9), messages: 4, body_octets: 77, page };
        let gone = [Range { first: 0, last: 2 }, Range { first: 5, last: 5 }].into_iter().collect();
        let mut returns = Returns::default();
        returns.note(Return { ordinal: 4, count: 3 });
        Snapshot {
            first_segment: 7,
            position: Position(4096),
            last_number: 55,
            next_kept_file: 1 << 31 | 1,
            definitions: [(b"key".to_vec(), b"value".to_vec()), (vec![], vec![])].into(),
            queues: [
                (QueueNumber(1), QueueState::default()),
                (QueueNumber(9), QueueState { gone, kept: vec![run], returns }),
            ]
            .into(),
        }
    }

    #[test]
    fn a_snapshot_comes_back_and_every_flipped_bit_and_cut_is_found() {
        let octets = snapshot().to_octets();
        assert_eq!(Snapshot::read(&octets), Ok(snapshot()));
        for bit in 0..octets.len() * 8 {
            let mut damaged = octets.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Snapshot::read(&damaged), Err(BadSnapshot::Damaged), "bit {bit}");
        }
        for length in 0..octets.len() {
            assert_eq!(Snapshot::read(&octets[..length]), Err(BadSnapshot::Damaged), "cut at {length}");
        }
    }

    #[test]
    fn a_newer_version_is_told() {
        let mut octets = snapshot().to_octets();
        octets[8] = 3;
        let crc = crc32c::crc32c(&octets[..28]);
        octets[28..32].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Snapshot::read(&octets), Err(BadSnapshot::Newer(3)));
    }

    #[test]
    fn names_and_numbers_belong_together() {
        let name = snapshot_name(0xabc);
        assert_eq!(snapshot_number(&name), Some(0xabc));
        assert_eq!(snapshot_number(&format!("{name}{COPY_SUFFIX}")), Some(0xabc));
        assert_eq!(snapshot_number("snapshot-1"), None);
    }
}
