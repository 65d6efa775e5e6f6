//! Retiring a segment of the journal: what still lives in it is written to pages, grouped by queue.
//!
//! Reads files and writes files, and asks about each message whether it lives; the engine that wrote
//! them may run or not. Most segments hold nothing that lives. Invariant: once a retirement is done,
//! every message of the segment that lives is on a page that lasts, or was told to be lost.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{
    disk::Disk,
    journal::{
        Operation, Position, QueueNumber,
        reader::{Found, SegmentReader},
        segment::segment_name,
        writer::SegmentSpan,
    },
    kept::{KeptMessage, KeptPage, KeptWriter},
    record::Record,
};
use crate::Ordinal;

/// Fewer octets than any record has.
const RECORD_OCTETS_MIN: u64 = 22;

/// A message that lives.
#[derive(Debug, Clone, Copy)]
struct Living {
    queue: QueueNumber,
    ordinal: Ordinal,
    batch: Position,
    place: u32,
    /// Where its record stands among those that were read.
    start: usize,
    octets: usize,
}

/// Messages of a queue that are lost, because what they stood in is damaged.
pub type Losses = BTreeMap<QueueNumber, u64>;

/// What became of a segment.
#[derive(Debug, Default)]
pub struct Retired {
    /// Pages with what lived in it.
    pub pages: Vec<KeptPage>,
    /// What was lost.
    pub losses: Losses,
}

/// What lives in a segment, in the order of queues and ordinals.
#[derive(Debug)]
pub(super) struct Survivors {
    living: Vec<Living>,
    records: Vec<u8>,
    /// What would live and is damaged.
    pub(super) losses: Losses,
}

impl Survivors {
    /// Each message's queue and record.
    pub(super) fn iter(&self) -> impl Iterator<Item = (QueueNumber, &[u8])> {
        self.living
            .iter()
            .map(|message| (message.queue, &self.records[message.start..message.start + message.octets]))
    }
}

/// A segment of the journal that is retired.
pub struct Retirement<'a> {
    /// Where it is, and where pages are written.
    pub disk: &'a dyn Disk,
    /// All segments that are there, in order: batches may stand in earlier ones.
    pub segments: &'a [SegmentSpan],
    /// Whether a message lives.
    pub is_live: &'a dyn Fn(QueueNumber, Ordinal) -> bool,
    /// Whether a message that lives may have been delivered before.
    pub redelivered: &'a dyn Fn(QueueNumber, Ordinal) -> bool,
    /// Up to there somebody may have been told that messages are kept: only what stood before is lost
    /// when it is damaged.
    pub synced: Position,
}

impl Retirement<'_> {
    /// Retires the segment, to a file of pages of that number if anything in it lives.
    ///
    /// # Errors
    /// What the disk says; then nothing has changed but for a file that nobody knows of.
    pub fn run(&self, segment: SegmentSpan, file_number: u32) -> io::Result<Retired> {
        let survivors = self.survivors(segment)?;
        let pages = self.write(&survivors, self.disk, file_number)?;
        Ok(Retired { pages, losses: survivors.losses })
    }

    /// What lives in the segment.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn survivors(&self, segment: SegmentSpan) -> io::Result<Survivors> {
        let mut reader = self.open(segment)?;
        let mut living = self.living(&mut reader)?;
        let records = self.read_records(&mut living, &mut reader)?;
        let mut losses = Losses::new();
        living.retain(|message| {
            let is_read = message.octets > 0;
            if !is_read && message.batch < self.synced {
                *losses.entry(message.queue).or_default() += 1;
            }
            is_read
        });
        living.sort_by_key(|message| (message.queue, message.ordinal));
        Ok(Survivors { living, records, losses })
    }

    fn open(&self, segment: SegmentSpan) -> io::Result<SegmentReader> {
        let file = self.disk.open(&segment_name(segment.number))?;
        let mut reader = SegmentReader::at(Arc::clone(&file), segment.first)?;
        reader.cut(segment.end);
        Ok(reader)
    }

    fn living(&self, reader: &mut SegmentReader) -> io::Result<Vec<Living>> {
        // One that was given up before anything was in it may end before it begins.
        let octets = self.segments.iter().map(|segment| segment.end.0.saturating_sub(segment.first.0));
        let octets = octets.fold(0, u64::saturating_add);
        let records_max = octets / RECORD_OCTETS_MIN;
        let mut living = Vec::new();
        while let Some(found) = reader.next(Position(u64::MAX))? {
            let Found::Operation { operation: Operation::Enqueue { queue, batch, runs }, .. } = found else {
                continue;
            };
            // One that names more than all segments have room for makes no sense, whatever its checksum says,
            // and would take as much memory as it likes.
            for run in runs.iter().filter(|run| u64::from(run.place) + u64::from(run.count) <= records_max) {
                for (place, ordinal) in (run.place..run.place + run.count).zip(run.ordinal..) {
                    let ordinal = Ordinal(ordinal);
                    if (self.is_live)(queue, ordinal) {
                        living.push(Living { queue, ordinal, batch, place, start: 0, octets: 0 });
                    }
                }
            }
        }
        Ok(living)
    }

    /// Reads the records of all that live, each once whatever the number of its queues.
    fn read_records(&self, living: &mut [Living], reader: &mut SegmentReader) -> io::Result<Vec<u8>> {
        living.sort_by_key(|message| (message.batch, message.place));
        let mut records = Vec::new();
        for messages in living.chunk_by_mut(|one, other| one.batch == other.batch) {
            let at = messages[0].batch;
            if at >= reader.first() {
                take_records(messages, reader.batch(at)?, &mut records);
            } else if let Some(segment) =
                self.segments.iter().find(|earlier| earlier.first <= at && at < earlier.end)
            {
                take_records(messages, self.open(*segment)?.batch(at)?, &mut records);
            }
        }
        Ok(records)
    }

    /// Writes what lives to a file of pages of that number, if anything does.
    ///
    /// # Errors
    /// What the disk says; then nothing has changed but for a file that nobody knows of.
    pub(super) fn write(
        &self,
        survivors: &Survivors,
        into: &dyn Disk,
        file_number: u32,
    ) -> io::Result<Vec<KeptPage>> {
        let Survivors { living, records, .. } = survivors;
        if living.is_empty() {
            return Ok(Vec::new());
        }
        KeptWriter::write(into, file_number, |writer| {
            let mut messages = Vec::new();
            for of_queue in living.chunk_by(|one, other| one.queue == other.queue) {
                let queue = of_queue[0].queue;
                messages.clear();
                messages.extend(of_queue.iter().map(|message| KeptMessage {
                    ordinal: message.ordinal,
                    record: &records[message.start..message.start + message.octets],
                    redelivered: (self.redelivered)(queue, message.ordinal),
                }));
                writer.add(queue, &messages)?;
            }
            Ok(())
        })
    }
}

/// Copies the records of messages of one batch, which are in the order of their places.
fn take_records(messages: &mut [Living], batch: Option<&[u8]>, records: &mut Vec<u8>) {
    let Some(batch) = batch else { return };
    let mut walk = Record::walk(batch).enumerate();
    let mut last: Option<(u32, usize, usize)> = None;
    for message in messages {
        if let Some((place, start, octets)) = last
            && place == message.place
        {
            (message.start, message.octets) = (start, octets);
            continue;
        }
        let Some((_, record)) = walk.find(|(at, _)| *at == message.place as usize) else { return };
        (message.start, message.octets) = (records.len(), record.len());
        records.extend_from_slice(record);
        last = Some((message.place, message.start, message.octets));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        disk_tests::MemoryDisk,
        journal::{
            List, Run,
            segment::{SEGMENT_HEADER_OCTETS, SegmentHeader},
        },
    };

    #[test]
    fn a_run_of_more_messages_than_there_is_room_for_names_none() {
        let (disk, mut octets, mut runs) = (MemoryDisk::default(), Vec::new(), Vec::new());
        let (first, queue) = (Position(0), QueueNumber(1));
        let run = Run { place: 1, count: u32::MAX, ordinal: 0 };
        let enqueue = Operation::Enqueue { queue, batch: first, runs: List::write(&[run], &mut runs) };
        enqueue.as_entry(|head, parts| head.write(first, parts, &mut octets));
        let file = disk.create(&segment_name(1)).unwrap();
        file.write_at(&SegmentHeader { number: 1, first }.to_octets(), 0).unwrap();
        file.write_at(&octets, SEGMENT_HEADER_OCTETS as u64).unwrap();
        let segment = SegmentSpan { number: 1, first, end: first.plus(octets.len()) };
        let asked = std::cell::Cell::new(0);
        let retirement = Retirement {
            disk: &disk,
            segments: &[segment],
            is_live: &|_, _| {
                asked.set(asked.get() + 1);
                true
            },
            redelivered: &|_, _| false,
            synced: segment.end,
        };
        assert!(retirement.survivors(segment).unwrap().living.is_empty());
        assert_eq!(asked.get(), 0, "nobody was asked about four thousand million messages");
    }
}
