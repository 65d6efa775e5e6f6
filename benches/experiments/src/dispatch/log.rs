//! Message bodies: one immutable chunk for each batch that was read, found by 8-octet locations.
//!
//! Knows nothing of queues or consumers. Invariant: a chunk's reference count is the number of
//! locations that point into it, wherever they wait; the chunk goes when the count is zero.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use parking_lot::Mutex;

/// Octets before each body: its length.
pub(super) const LENGTH_OCTETS: usize = 4;
/// Octets before each delivered body: its length and its delivery tag.
pub(super) const DELIVERY_HEADER_OCTETS: usize = LENGTH_OCTETS + 8;

/// Where a message lies: the chunk's slot in the upper half, the offset in the chunk in the lower.
#[derive(Clone, Copy)]
pub(super) struct Location(u64);

impl Location {
    pub(super) fn new(slot: u32, offset: u32) -> Self {
        Self(u64::from(slot) << 32 | u64::from(offset))
    }

    /// The same offset in the chunk of another slot.
    pub(super) fn in_slot(self, slot: u32) -> Self {
        Self(u64::from(slot) << 32 | self.0 & 0xffff_ffff)
    }

    fn slot(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn offset(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

struct Chunk {
    octets: Box<[u8]>,
    references: AtomicU32,
}

impl Chunk {
    fn record(&self, location: Location) -> &[u8] {
        let (length, rest) = self.octets[location.offset()..].split_at(LENGTH_OCTETS);
        let length = u32::from_le_bytes(length.try_into().expect("split at four octets"));
        &rest[..length as usize]
    }
}

#[derive(Default)]
struct Slots {
    chunks: Vec<Option<Arc<Chunk>>>,
    free: Vec<u32>,
}

/// All chunks that something still points into.
#[derive(Default)]
pub(super) struct Log {
    slots: Mutex<Slots>,
}

impl Log {
    /// Keeps a copy of `octets` until `references` locations in it were released.
    pub(super) fn append(&self, octets: &[u8], references: u32) -> u32 {
        let chunk = Arc::new(Chunk { octets: octets.into(), references: references.into() });
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.free.pop() {
            slots.chunks[slot as usize] = Some(chunk);
            return slot;
        }
        slots.chunks.push(Some(chunk));
        slots.chunks.len() as u32 - 1
    }

    fn chunk(&self, slot: u32) -> Arc<Chunk> {
        self.slots.lock().chunks[slot as usize].clone().expect("a location keeps its chunk")
    }

    fn release(&self, slot: u32, chunk: &Chunk, count: u32) {
        if chunk.references.fetch_sub(count, Ordering::AcqRel) == count {
            let mut slots = self.slots.lock();
            let dead = slots.chunks[slot as usize].take();
            slots.free.push(slot);
            drop(slots);
            drop(dead);
        }
    }

    /// Lets go of messages that were acknowledged.
    pub(super) fn release_all(&self, locations: &[Location]) {
        for run in locations.chunk_by(|a, b| a.slot() == b.slot()) {
            let slot = run[0].slot();
            self.release(slot, &self.chunk(slot), run.len() as u32);
        }
    }

    /// Writes deliveries until `output` has reached `octets_max`, and answers how many it wrote. With
    /// `release` the messages need no acknowledgement, and are let go at once.
    pub(super) fn encode(
        &self,
        locations: &[Location],
        first_tag: u64,
        release: bool,
        octets_max: usize,
        output: &mut Vec<u8>,
    ) -> usize {
        let mut written = 0;
        for run in locations.chunk_by(|a, b| a.slot() == b.slot()) {
            let chunk = self.chunk(run[0].slot());
            let before = written;
            for &location in run {
                if output.len() >= octets_max {
                    break;
                }
                encode_one(chunk.record(location), first_tag + written as u64, output);
                written += 1;
            }
            let count = written - before;
            if release && count > 0 {
                self.release(run[0].slot(), &chunk, count as u32);
            }
            if count < run.len() {
                break;
            }
        }
        written
    }
}

fn encode_one(record: &[u8], tag: u64, output: &mut Vec<u8>) {
    output.extend_from_slice(&(record.len() as u32).to_le_bytes());
    output.extend_from_slice(&tag.to_le_bytes());
    output.extend_from_slice(record);
}
