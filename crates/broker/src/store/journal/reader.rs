//! Reading a segment back: what of it is whole, and where damage lies.
//!
//! Reads a window of the file at a time. The records of a batch, which most of the octets are, are
//! passed over and looked at only when somebody wants them. Knows octets and checksums; what was
//! lost with an entry is for who replays them. Invariant: what is told to be an operation was
//! written as one, at that position.

use std::{io, sync::Arc};

use super::{
    entry::{ALIGNMENT, HEAD_OCTETS, Head, Position},
    operation::{BATCH, Operation},
    segment::{BadHeader, SEGMENT_HEADER_OCTETS, SegmentHeader},
};
use crate::store::disk::DiskFile;

/// Octets read at a time.
const WINDOW_OCTETS: usize = 256 * 1024;

/// What stands in a segment, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// An entry that is whole.
    Operation {
        /// Its first octet.
        at: Position,
        /// What it says.
        operation: Operation<'a>,
    },
    /// A batch, whose records were not looked at.
    Batch {
        /// Its first octet.
        at: Position,
    },
    /// Octets that make no entry: changed, cut off, or never written.
    Damage {
        /// The first of them.
        at: Position,
        /// How many there are.
        octets: u64,
    },
}

/// A segment's file.
#[derive(Debug)]
pub struct SegmentReader {
    file: Arc<dyn DiskFile>,
    first: Position,
    end: Position,
    next: Position,
    window: Vec<u8>,
    window_at: Position,
}

impl SegmentReader {
    /// Reads from the first entry on.
    ///
    /// # Errors
    /// What the disk says, and [`io::ErrorKind::InvalidData`] with a [`BadHeader`].
    pub fn open(file: Arc<dyn DiskFile>) -> io::Result<Self> {
        let mut header = [0; SEGMENT_HEADER_OCTETS];
        let header = match file.read_at(&mut header, 0) {
            Ok(()) => SegmentHeader::read(&header),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(BadHeader::Damaged),
            Err(error) => return Err(error),
        };
        let header = header.map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
        Self::at(file, header.first)
    }

    /// Reads a file whose header is damaged, and whose first entry stands there.
    ///
    /// # Errors
    /// What the disk says.
    pub fn at(file: Arc<dyn DiskFile>, first: Position) -> io::Result<Self> {
        let octets = file.octets()?.saturating_sub(SEGMENT_HEADER_OCTETS as u64);
        let end = Position(first.0.saturating_add(octets));
        Ok(Self { file, first, end, next: first, window: Vec::new(), window_at: first })
    }

    /// Where its first entry stands.
    #[must_use]
    pub const fn first(&self) -> Position {
        self.first
    }

    /// Behind its last octet.
    #[must_use]
    pub const fn end(&self) -> Position {
        self.end
    }

    /// Reads nothing from that position on.
    pub fn cut(&mut self, end: Position) {
        self.end = self.end.min(end);
    }

    /// Begins anew.
    pub const fn rewind(&mut self) {
        self.next = self.first;
    }

    /// What comes next. The records of a batch that stands behind `verified_from` are looked at.
    ///
    /// # Errors
    /// What the disk says.
    pub fn next(&mut self, verified_from: Position) -> io::Result<Option<Found<'_>>> {
        let at = self.next;
        if at >= self.end {
            return Ok(None);
        }
        let Some(head) = self.whole_head(at, verified_from)? else { return self.damage(at).map(Some) };
        self.next = at.plus(head.entry_octets()).min(self.end);
        if head.kind == BATCH {
            return Ok(Some(Found::Batch { at }));
        }
        let entry = self.look(at, head.entry_octets())?;
        let payload = &entry[HEAD_OCTETS..HEAD_OCTETS + head.payload_octets];
        Ok(match Operation::read(head.kind, payload) {
            Some(operation) => Some(Found::Operation { at, operation }),
            None => Some(Found::Damage { at, octets: head.entry_octets() as u64 }),
        })
    }

    /// The head of an entry that is whole.
    fn whole_head(&mut self, at: Position, verified_from: Position) -> io::Result<Option<Head>> {
        let Some(head) = Head::read(at, self.look(at, HEAD_OCTETS)?) else { return Ok(None) };
        if at.plus(HEAD_OCTETS + head.payload_octets) > self.end {
            return Ok(None);
        }
        if head.kind == BATCH && at < verified_from {
            return Ok(Some(head));
        }
        let is_whole = head.payload(self.look(at, head.entry_octets())?).is_some();
        Ok(is_whole.then_some(head))
    }

    /// From here to the next head that is whole.
    fn damage(&mut self, at: Position) -> io::Result<Found<'_>> {
        let mut next = at.plus(ALIGNMENT);
        while next.plus(HEAD_OCTETS) <= self.end && Head::read(next, self.look(next, HEAD_OCTETS)?).is_none()
        {
            next = next.plus(ALIGNMENT);
        }
        if next.plus(HEAD_OCTETS) > self.end {
            next = self.end;
        }
        self.next = next;
        Ok(Found::Damage { at, octets: next.behind(at) })
    }

    /// The records of the batch that begins there; `None` when they are damaged.
    ///
    /// # Errors
    /// What the disk says.
    pub fn batch(&mut self, at: Position) -> io::Result<Option<&[u8]>> {
        if at < self.first || at >= self.end {
            return Ok(None);
        }
        let Some(head) = Head::read(at, self.look(at, HEAD_OCTETS)?) else { return Ok(None) };
        if head.kind != BATCH {
            return Ok(None);
        }
        Ok(head.payload(self.look(at, head.entry_octets())?))
    }

    /// The octets from there on, fewer than wanted where the file ends.
    fn look(&mut self, at: Position, octets: usize) -> io::Result<&[u8]> {
        let wanted = at.plus(octets).min(self.end).behind(at);
        let wanted = usize::try_from(wanted).expect("it is at most what was asked for");
        let window_end = self.window_at.plus(self.window.len());
        if at < self.window_at || at.plus(wanted) > window_end {
            let length = self.end.behind(at).min(wanted.max(WINDOW_OCTETS) as u64);
            self.window.resize(usize::try_from(length).expect("a window fits into memory"), 0);
            self.window_at = at;
            let offset = SEGMENT_HEADER_OCTETS as u64 + at.behind(self.first);
            if let Err(error) = self.file.read_at(&mut self.window, offset) {
                self.window.clear();
                return Err(error);
            }
        }
        let start = usize::try_from(at.behind(self.window_at)).expect("it is in the window");
        Ok(&self.window[start..start + wanted])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{disk::Disk, disk_tests::MemoryDisk};

    /// Three removals, and where each begins and ends.
    fn entries(first: Position) -> (Vec<u8>, Vec<usize>) {
        let (mut octets, mut ends) = (Vec::new(), vec![0]);
        for key in KEYS {
            let operation = Operation::Remove { key: key.as_bytes() };
            operation.as_entry(|head, parts| head.write(first.plus(octets.len()), parts, &mut octets));
            ends.push(octets.len());
        }
        (octets, ends)
    }

    const KEYS: [&str; 3] = ["one", "two, which is longer", "three"];

    fn found(octets: &[u8], first: Position) -> Vec<String> {
        let file = MemoryDisk::default().create("journal").unwrap();
        file.write_at(&SegmentHeader { number: 0, first }.to_octets(), 0).unwrap();
        file.write_at(octets, SEGMENT_HEADER_OCTETS as u64).unwrap();
        let mut reader = SegmentReader::open(file).unwrap();
        let mut found = Vec::new();
        while let Some(next) = reader.next(Position(0)).unwrap() {
            found.push(match next {
                Found::Operation { operation: Operation::Remove { key }, .. } => {
                    String::from_utf8_lossy(key).into_owned()
                }
                Found::Damage { octets, .. } => format!("-{octets}"),
                other => format!("{other:?}"),
            });
        }
        found
    }

    #[test]
    fn a_flipped_bit_costs_its_entry_alone() {
        let first = Position(1 << 20);
        let (octets, ends) = entries(first);
        assert_eq!(found(&octets, first), KEYS);
        for bit in 0..octets.len() * 8 {
            let mut damaged = octets.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let hit = ends.iter().filter(|end| **end <= bit / 8).count() - 1;
            let mut wanted = KEYS.map(str::to_owned);
            // What fills up to the next entry says nothing.
            if bit / 8 < ends[hit] + HEAD_OCTETS + KEYS[hit].len() {
                wanted[hit] = format!("-{}", ends[hit + 1] - ends[hit]);
            }
            assert_eq!(found(&damaged, first), wanted, "bit {bit}");
        }
    }

    #[test]
    fn what_is_cut_off_is_told_and_what_is_whole_is_kept() {
        let first = Position(0);
        let (octets, ends) = entries(first);
        for length in 0..octets.len() {
            let found = found(&octets[..length], first);
            let whole = (0..3).filter(|nth| ends[*nth] + HEAD_OCTETS + KEYS[*nth].len() <= length).count();
            assert_eq!(found[..whole], KEYS[..whole], "cut at {length}");
            let is_torn = length > ends[whole];
            assert_eq!(found.len(), whole + usize::from(is_torn), "cut at {length}: {found:?}");
        }
    }

    #[test]
    fn records_of_a_batch_are_passed_over_and_found_again() {
        let file = MemoryDisk::default().create("journal").unwrap();
        let first = Position(8);
        let mut octets = SegmentHeader { number: 0, first }.to_octets().to_vec();
        let records = vec![7; WINDOW_OCTETS + 100];
        for operation in [Operation::Batch { records: &records }, Operation::Remove { key: b"key" }] {
            let at = first.plus(octets.len() - SEGMENT_HEADER_OCTETS);
            operation.as_entry(|head, parts| head.write(at, parts, &mut octets));
        }
        file.write_at(&octets, 0).unwrap();
        let read = |verified_from| {
            let mut reader = SegmentReader::open(Arc::clone(&file)).unwrap();
            let is_batch =
                matches!(reader.next(verified_from).unwrap(), Some(Found::Batch { at }) if at == first);
            let is_next = matches!(reader.next(verified_from).unwrap(), Some(Found::Operation { .. }));
            let records = reader.batch(first).unwrap().map(<[u8]>::len);
            (is_batch, is_next, records)
        };
        assert_eq!(read(Position(0)), (true, true, Some(records.len())));
        file.write_at(&[8], 5000).unwrap();
        assert_eq!(read(Position(9)), (true, true, None), "what is passed over is not looked at");
        assert_eq!(read(Position(0)), (false, true, None));
    }
}
