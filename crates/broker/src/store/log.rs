//! The message log: chunks of records, and references counted for each message.
//!
//! A read batch is appended at once; a small one goes behind the messages of its connection's
//! last chunk while nobody reads that, so that a message that arrives alone does not cost a chunk
//! of its own. Readers hold a chunk as it was when they asked for it. When few of a chunk's
//! messages are left, it is rewritten under its slot without the others: locations stay true.
//! Invariant: a message is there as long as a location of it is held; a chunk goes with its last
//! message, and its slot is free then.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::{Mutex, RwLock};
use slab::Slab;

use super::{chunk::Chunk, memory::ChunkMemory, record::Record};
use crate::{Location, OctetCount};

/// Octets that a reference costs: its place in a queue or among the unacknowledged.
const REFERENCE_OCTETS: u64 = 16;
/// A chunk is rewritten when fewer than one in this many of its messages are left.
const SPARSE_DIVISOR: usize = 4;
/// Chunks of fewer octets are not worth rewriting.
const REWRITE_OCTETS_MIN: usize = 1024;
/// A batch of fewer octets goes behind an earlier one.
const SHARED_BATCH_OCTETS_MAX: usize = 8 * 1024;
/// Octets that batches behind one another may fill.
const SHARED_CHUNK_OCTETS_MAX: usize = 64 * 1024;

/// The serial of a chunk that is about to leave its slot.
const GONE: u64 = 0;

/// A chunk in its slot.
#[derive(Debug)]
struct Slot {
    /// Tells it from an earlier chunk in the slot.
    serial: u64,
    chunk: Arc<Chunk>,
    /// How many locations of each message are held, in the order of the chunk's places.
    references: Vec<u32>,
    /// Messages with references left.
    live: usize,
    next_number: usize,
}

/// Messages of one read batch before they are in the log.
#[derive(Debug, Default)]
pub struct LogBatch {
    octets: Vec<u8>,
    offsets: Vec<u32>,
    references: Vec<u32>,
}

impl LogBatch {
    /// Appends a message that `references` locations will be held of, and returns its place in
    /// the batch. `buffer` is asked for an empty buffer when the batch begins.
    #[inline]
    pub fn append(
        &mut self,
        references: u32,
        buffer: impl FnOnce() -> Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        if self.octets.capacity() == 0 {
            self.octets = buffer();
        }
        let offset = u32::try_from(self.octets.len()).expect("a batch is far below 4 GiB");
        write(&mut self.octets);
        self.offsets.push(offset);
        self.references.push(references);
        self.offsets.len() - 1
    }

    /// Octets of records so far.
    #[must_use]
    pub const fn octets(&self) -> usize {
        self.octets.len()
    }

    /// The records, one behind the other.
    #[must_use]
    pub fn records(&self) -> &[u8] {
        &self.octets
    }

    /// The record at a place of the batch.
    #[must_use]
    pub fn record(&self, place: usize) -> &[u8] {
        Record::raw(&self.octets, self.offsets[place] as usize)
    }

    fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    fn reference_count(&self) -> u64 {
        self.references.iter().map(|count| u64::from(*count)).sum()
    }
}

/// The chunk that was looked into last, which is mostly the one that comes next.
#[derive(Debug, Default)]
pub struct LastChunk {
    chunk: Option<(usize, Arc<Chunk>)>,
}

impl LastChunk {
    /// The chunk that holds the location. Keep this no longer than a step: a chunk that is held
    /// is not appended to.
    #[inline]
    pub fn find(&mut self, log: &MessageLog, location: Location) -> &Arc<Chunk> {
        match &self.chunk {
            Some((slot, _)) if *slot == location.chunk() => {}
            _ => self.chunk = Some((location.chunk(), log.chunk(location))),
        }
        &self.chunk.as_ref().expect("it was just set").1
    }
}

/// The chunk that a connection's small batches go to, if it is still there.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenChunk {
    at: Option<(usize, u64)>,
}

/// All messages of a broker.
#[derive(Debug, Default)]
pub struct MessageLog {
    slots: RwLock<Slab<Mutex<Slot>>>,
    memory: Arc<ChunkMemory>,
    last_serial: AtomicU64,
}

impl MessageLog {
    /// An empty log, which counts there what messages and references cost, also those that only
    /// readers still hold.
    #[must_use]
    pub fn new(octets: OctetCount) -> Self {
        Self { memory: Arc::new(ChunkMemory::new(octets)), ..Self::default() }
    }

    /// An empty buffer for a batch that may come to hold that many octets.
    #[must_use]
    pub fn buffer(&self, octets_hint: usize) -> Vec<u8> {
        self.memory.buffer(octets_hint)
    }

    /// Keeps a buffer for later, if it is of the size that batches take.
    pub fn keep_buffer(&self, buffer: Vec<u8>) {
        self.memory.keep(buffer);
    }

    /// Lets go of the buffers that are kept for later.
    pub fn let_go_of_buffers(&self) {
        self.memory.let_go();
    }

    /// How many chunks there are.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.slots.read().len()
    }

    /// Puts the batch into the log and empties it. The message at place 0 has the location that
    /// is returned, and those behind it the ones behind that.
    pub fn append(&self, batch: &mut LogBatch, open: &mut OpenChunk) -> Location {
        assert!(!batch.is_empty(), "a batch has messages");
        self.memory.count(batch.reference_count() * REFERENCE_OCTETS);
        if batch.octets() <= SHARED_BATCH_OCTETS_MAX
            && let Some(location) = self.append_behind(batch, open)
        {
            return location;
        }
        self.append_apart(batch, open)
    }

    /// Puts a small batch behind the open chunk's messages, unless that is gone, full or read.
    fn append_behind(&self, batch: &mut LogBatch, open: &OpenChunk) -> Option<Location> {
        let (at, serial) = open.at?;
        let slots = self.slots.read();
        let mut slot = slots.get(at).map(Mutex::lock).filter(|slot| slot.serial == serial)?;
        let slot = &mut *slot;
        let before = slot.chunk.cost_octets();
        let chunk = Arc::get_mut(&mut slot.chunk)?;
        let fits = chunk.octets.len() + batch.octets() <= SHARED_CHUNK_OCTETS_MAX
            && slot.next_number + batch.offsets.len() <= Location::CHUNK_MESSAGES_MAX;
        if !fits {
            return None;
        }
        let first = slot.next_number;
        let base = u32::try_from(chunk.octets.len()).expect("an open chunk is small");
        chunk.octets.append(&mut batch.octets);
        chunk.places.extend(places(first, base, &batch.offsets));
        slot.next_number += batch.offsets.len();
        slot.live += batch.offsets.len();
        slot.references.append(&mut batch.references);
        batch.offsets.clear();
        self.memory.count(chunk.cost_octets() - before);
        Some(Location::new(at, first))
    }

    /// Makes the batch a chunk, with the allocation that the records were written to.
    fn append_apart(&self, batch: &mut LogBatch, open: &mut OpenChunk) -> Location {
        let LogBatch { octets, offsets, references } = std::mem::take(batch);
        let octets = self.memory.fitted(octets);
        let chunk = Chunk::new(octets, places(0, 0, &offsets).collect(), &self.memory);
        let serial = self.last_serial.fetch_add(1, Ordering::Relaxed) + 1;
        let is_shared = chunk.octets.len() <= SHARED_BATCH_OCTETS_MAX;
        let messages = offsets.len();
        let slot = Slot { serial, chunk: Arc::new(chunk), references, live: messages, next_number: messages };
        let at = self.slots.write().insert(Mutex::new(slot));
        if is_shared {
            open.at = Some((at, serial));
        }
        Location::new(at, 0)
    }

    /// Makes a page that was read a chunk, whose records begin at those offsets, with a reference to
    /// each. The message at place 0 has the location that is returned.
    #[must_use]
    pub fn append_page(&self, octets: Vec<u8>, offsets: impl ExactSizeIterator<Item = u32>) -> Location {
        let messages = offsets.len();
        let places = (0..).zip(offsets).collect();
        self.memory.count(messages as u64 * REFERENCE_OCTETS);
        let serial = self.last_serial.fetch_add(1, Ordering::Relaxed) + 1;
        let chunk = Arc::new(Chunk::new(octets, places, &self.memory));
        let slot =
            Slot { serial, chunk, references: vec![1; messages], live: messages, next_number: messages };
        Location::new(self.slots.write().insert(Mutex::new(slot)), 0)
    }

    /// How many references to a message there are.
    ///
    /// # Panics
    /// When there is none, which only our own bug could cause.
    #[must_use]
    pub fn references(&self, location: Location) -> u32 {
        let slots = self.slots.read();
        let slot = slots.get(location.chunk()).expect("a referenced chunk is in the log").lock();
        let at = slot.chunk.find(location.number()).expect("a referenced message is in its chunk");
        slot.references[at]
    }

    /// The chunk that holds the location.
    ///
    /// # Panics
    /// When nobody holds a reference into it any more, which only our own bug could cause.
    #[must_use]
    pub fn chunk(&self, location: Location) -> Arc<Chunk> {
        let slots = self.slots.read();
        let slot = slots.get(location.chunk()).expect("a referenced chunk is in the log").lock();
        Arc::clone(&slot.chunk)
    }

    /// Counts a further reference to each, which are all referenced already. Neighbours in one chunk
    /// are found together.
    pub fn retain(&self, locations: impl IntoIterator<Item = Location>) {
        let slots = self.slots.read();
        let mut locations = locations.into_iter().peekable();
        let mut count = 0;
        while let Some(first) = locations.next() {
            let mut slot = slots.get(first.chunk()).expect("a referenced chunk is in the log").lock();
            let run = std::iter::from_fn(|| locations.next_if(|next| next.chunk() == first.chunk()));
            count += slot.retain(std::iter::once(first).chain(run));
        }
        self.memory.count(count * REFERENCE_OCTETS);
    }

    /// Gives references back. Neighbours in one chunk are found together.
    pub fn release(&self, locations: impl IntoIterator<Item = Location>) {
        let mut locations = locations.into_iter().peekable();
        while let Some(first) = locations.next() {
            let at = first.chunk();
            let run = std::iter::from_fn(|| locations.next_if(|next| next.chunk() == at));
            self.release_run(at, std::iter::once(first).chain(run));
        }
    }

    fn release_run(&self, at: usize, run: impl Iterator<Item = Location>) {
        let slots = self.slots.read();
        let mut slot = slots.get(at).expect("a referenced chunk is in the log").lock();
        let count = slot.release(run);
        let is_dead = slot.live == 0;
        if is_dead {
            // From here on nobody may put a batch behind it.
            slot.serial = GONE;
        } else if slot.is_sparse() {
            slot.rewrite();
        }
        drop(slot);
        drop(slots);
        self.memory.discount(count * REFERENCE_OCTETS);
        if is_dead {
            let gone = self.slots.write().remove(at);
            // What it held is freed when nobody waits for the lock any more.
            drop(gone);
        }
    }
}

/// Numbers and offsets of a batch that goes behind `base` octets.
fn places(first: usize, base: u32, offsets: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    let first = u32::try_from(first).expect("numbers of a chunk are small");
    (first..).zip(offsets.iter().map(move |offset| base + offset))
}

impl Slot {
    fn retain(&mut self, run: impl Iterator<Item = Location>) -> u64 {
        let mut count = 0;
        for location in run {
            let at = self.chunk.find(location.number()).expect("a referenced message is in its chunk");
            self.references[at] += 1;
            count += 1;
        }
        count
    }

    fn release(&mut self, run: impl Iterator<Item = Location>) -> u64 {
        let mut count = 0;
        for location in run {
            let at = self.chunk.find(location.number()).expect("a referenced message is in its chunk");
            let references = &mut self.references[at];
            *references = references.checked_sub(1).expect("a reference is given back once");
            self.live -= usize::from(*references == 0);
            count += 1;
        }
        count
    }

    fn is_sparse(&self) -> bool {
        self.live * SPARSE_DIVISOR < self.references.len() && self.chunk.octets.len() >= REWRITE_OCTETS_MIN
    }

    /// Leaves the dead messages out. Whoever reads the chunk as it was goes on doing so.
    fn rewrite(&mut self) {
        let (mut octets, mut places) = (Vec::new(), Vec::new());
        for ((number, offset), _) in
            self.chunk.places.iter().zip(&self.references).filter(|(_, count)| **count > 0)
        {
            places.push((*number, u32::try_from(octets.len()).expect("it only gets smaller")));
            octets.extend_from_slice(Record::raw(&self.chunk.octets, *offset as usize));
        }
        octets.shrink_to_fit();
        places.shrink_to_fit();
        self.chunk = Arc::new(Chunk::new(octets, places, &self.chunk.memory));
        self.references.retain(|count| *count > 0);
        self.references.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use leveret_wire::PublishRoute;

    use super::*;

    struct Check {
        octets: OctetCount,
        log: MessageLog,
        open: OpenChunk,
    }

    impl Check {
        fn new() -> Self {
            let octets = OctetCount::default();
            Self { log: MessageLog::new(octets.clone()), octets, open: OpenChunk::default() }
        }

        fn append(&mut self, references: u32, bodies: impl IntoIterator<Item = Vec<u8>>) -> Vec<Location> {
            let mut batch = LogBatch::default();
            for body in bodies {
                batch.append(references, Vec::new, |chunk| {
                    let route = PublishRoute::from_octets(b"\x01x\x01k").unwrap();
                    Record::append(chunk, 0, route, &[0, 0], &body);
                });
            }
            let count = batch.offsets.len();
            let first = self.log.append(&mut batch, &mut self.open);
            (0..count).map(|place| first.plus(place)).collect()
        }

        fn body(&self, location: Location) -> Vec<u8> {
            self.log.chunk(location).record(location).body().to_vec()
        }
    }

    #[test]
    fn a_message_lives_as_long_as_its_references() {
        let mut check = Check::new();
        let locations = check.append(2, [vec![1; 40], vec![2; 40]]);
        check.log.release([locations[0], locations[1], locations[0]]);
        assert_eq!(check.body(locations[1]), [2; 40]);
        check.log.release([locations[1]]);
        assert_eq!((check.log.chunk_count(), check.octets.get()), (0, 0));
    }

    #[test]
    fn a_further_reference_keeps_a_message() {
        let mut check = Check::new();
        let locations = check.append(1, [vec![1; 10], vec![2; 10]]);
        let before = check.octets.get();
        check.log.retain([locations[0]]);
        assert_eq!(check.octets.get(), before + REFERENCE_OCTETS);
        check.log.release(locations.iter().copied());
        assert_eq!(check.body(locations[0]), [1; 10]);
        check.log.release([locations[0]]);
        assert_eq!(check.octets.get(), 0);
    }

    #[test]
    fn small_batches_share_a_chunk_while_nobody_reads_it() {
        let mut check = Check::new();
        let mut locations: Vec<_> = (0..100).flat_map(|n| check.append(1, [vec![n; 40]])).collect();
        assert_eq!(check.log.chunk_count(), 1);
        let reader = check.log.chunk(locations[0]);
        locations.extend(check.append(1, [vec![100; 40]]));
        assert_eq!(check.log.chunk_count(), 2, "a chunk that is being read is left alone");
        drop(reader);
        for (n, location) in (0..).zip(&locations) {
            assert_eq!(check.body(*location), [n; 40]);
        }
        check.log.release(locations);
        assert_eq!((check.log.chunk_count(), check.octets.get()), (0, 0));
        check.append(1, [vec![7; 40]]);
        assert_eq!(check.log.chunk_count(), 1, "the open chunk was gone");
    }

    #[test]
    fn one_survivor_does_not_pin_its_chunk() {
        let mut check = Check::new();
        let locations = check.append(1, (0..=255).map(|n| vec![n; 1000]));
        let reader = check.log.chunk(locations[9]);
        let full = check.octets.get();
        check.log.release(locations.iter().copied().filter(|location| location.number() != 200));
        assert_eq!(check.body(locations[200]), [200; 1000]);
        assert_eq!(reader.record(locations[9]).body(), [9; 1000], "a reader keeps what it asked for");
        assert!(check.octets.get() > full / 2, "what the reader keeps is counted");
        drop(reader);
        assert!(check.octets.get() < full / 100, "{} of {full}", check.octets.get());
        check.log.release([locations[200]]);
        assert_eq!(check.octets.get(), 0);
    }

    #[test]
    fn interleaved_chunks_are_counted_apart() {
        let mut check = Check::new();
        let one = check.append(1, [vec![1; 9000], vec![2; 9000]]);
        let other = check.append(1, [vec![3; 9000], vec![4; 9000]]);
        check.log.release([one[0], other[0], one[1]]);
        assert_eq!(check.log.chunk_count(), 1);
        check.log.release([other[1]]);
        assert_eq!(check.octets.get(), 0);
    }
}
